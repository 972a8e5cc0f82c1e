-- Moves a hold's deadline as far as a new hold's would be.
-- KEYS: as the table in mod.rs
-- ARGV: 1 the time in tests, else '' for the server's clock; 2 hold; 3 its owner;
--       4 ttl of a new hold, ms; 5 extensions left, as the caller saw them: run twice,
--       the script extends only once
-- Returns: {'extended', record} | {'no_more'} | {'gone'}
local now = time(ARGV[1])
local hold = live(ARGV[2], ARGV[3], now)
if not hold then return {'gone'} end
local seen = tonumber(ARGV[5])
if hold.state == 'H' and hold.left < seen then return {'extended', encode(hold)} end
if hold.state ~= 'H' or hold.left == 0 then return {'no_more'} end
hold.left = hold.left - 1
hold.deadline = math.max(hold.deadline, now + tonumber(ARGV[4]))
return {'extended', keep(ARGV[2], hold)}
