//! What runs the house.
