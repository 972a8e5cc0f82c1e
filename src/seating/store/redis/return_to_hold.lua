-- The checkout gives a hold back to its owner.
-- KEYS: as the table in mod.rs
-- ARGV: 1 hold; 2 its deadline
-- Returns: nothing
local hold = find(ARGV[1])
if hold and hold.state == 'P' then
  hold.state = 'H'
  hold.deadline = tonumber(ARGV[2])
  keep(ARGV[1], hold)
end
