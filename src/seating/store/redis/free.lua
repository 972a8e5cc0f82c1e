-- Frees those of the seats that a hold or a booking has.
-- KEYS: as the table in mod.rs
-- ARGV: 1 hold; 2... the seats
-- Returns: {'freed', version, changes}
local hold = find(ARGV[1])
if not hold then return {'freed', '', ''} end
local left = without(hold.seats, set_of(numbers(2)))
local freed = without(hold.seats, set_of(left))
if #left == 0 then
  finish(ARGV[1], hold)
elseif #freed > 0 then
  add_seats(hold.subject, -#freed)
  hold.seats = left
  keep(ARGV[1], hold)
  mark(freed, FREE)
end
return {'freed', publish()}
