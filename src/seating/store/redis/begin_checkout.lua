-- A checkout takes a hold over: it runs out no longer.
-- KEYS: as the table
-- ARGV: 1 the time in tests, else ''; 2 hold; 3 whose; 4 the deadline that is shown, at least
-- Returns: its record | nil
local hold = live(ARGV[2], ARGV[3], time(ARGV[1]))
if not hold then return nil end
hold.state = 'P'
hold.deadline = math.max(hold.deadline, tonumber(ARGV[4]))
return keep(ARGV[2], hold)
