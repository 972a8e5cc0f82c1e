-- Ends a hold.
-- KEYS: as the table
-- ARGV: 1 the time in tests, else ''; 2 hold; 3 whose
-- Returns: {'released', version, changes} | {'gone'}
local hold = live(ARGV[2], ARGV[3], time(ARGV[1]))
if not hold or hold.state ~= 'H' then return {'gone'} end
finish(ARGV[2], hold)
return {'released', publish()}
