-- Seats of a hold or a booking become free.
-- KEYS: as the table
-- ARGV: 1 hold; 2... the seats
-- Returns: {'freed', version, changes}
local hold = find(ARGV[1])
if not hold then return {'freed', '', ''} end
local left = without(hold.seats, set_of(numbers(2)))
local freed = without(hold.seats, set_of(left))
if #left == 0 then
  finish(ARGV[1], hold)
elseif #freed > 0 then
  fan_has(hold.who, -#freed)
  hold.seats = left
  keep(ARGV[1], hold)
  mark(freed, FREE)
end
return {'freed', publish()}
