-- A checkout takes a hold over: it no longer expires.
-- KEYS: as the table in mod.rs
-- ARGV: 1 the time in tests, else '' for the server's clock; 2 hold; 3 its owner; 4 the earliest deadline to show
-- Returns: its record | nil
local hold = live(ARGV[2], ARGV[3], time(ARGV[1]))
if not hold then return nil end
hold.state = 'P'
hold.deadline = math.max(hold.deadline, tonumber(ARGV[4]))
return keep(ARGV[2], hold)
