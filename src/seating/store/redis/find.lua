-- The subject's own live hold.
-- KEYS: as the table in mod.rs
-- ARGV: 1 the time in tests, else '' for the server's clock; 2 hold; 3 its owner
-- Returns: its record | nil
local hold = live(ARGV[2], ARGV[3], time(ARGV[1]))
return hold and encode(hold) or nil
