//! The composition root: builds the parts of the process from its settings, serves them and shuts them down.
//! Makes no business decisions.

pub mod audit;
mod box_office_feed;
mod build;
mod clock;
mod context;
mod created_files;
pub mod demo;
mod descriptors;
mod directory;
mod edge_state;
mod gateway;
mod lifecycles;
mod listeners;
mod metrics_loop;
pub mod preflight;
pub mod rehearse;
mod roles;
mod runtime;
mod serve;

pub use self::{
    build::check_plans,
    gateway::sandbox_gateway,
    listeners::{Listeners, listen},
    roles::Roles,
    runtime::block_on,
    serve::{DemoHooks, OnOpen, open, serve},
};
