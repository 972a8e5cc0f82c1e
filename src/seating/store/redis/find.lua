-- A hold, if it is hers and lives.
-- KEYS: as the table
-- ARGV: 1 the time in tests, else ''; 2 hold; 3 whose
-- Returns: its record | nil
local hold = live(ARGV[2], ARGV[3], time(ARGV[1]))
return hold and written(hold) or nil
