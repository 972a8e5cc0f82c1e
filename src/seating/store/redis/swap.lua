-- Gives a hold these seats instead.
-- KEYS: as the table
-- ARGV: 1 the time in tests, else ''; 2 hold; 3 whose; 4 most seats she may have; 5 '1' to let pass what is overdue; 6... the seats
-- Returns: {'changed', record, version, changes} | {'gone'} | {'limit'} | {'taken', seats...} | {'overdue'}
local now, id = time(ARGV[1]), ARGV[2]
local hold = live(id, ARGV[3], now)
if not hold or hold.state ~= 'H' then return {'gone'} end
local seats = numbers(6)
local gained = without(seats, set_of(hold.seats))
local given = without(hold.seats, set_of(seats))
local taken = those_in(gained, FREE, true)
local has = tonumber(redis.call('HGET', FANS, hold.who) or 0)
local limited = #seats > #hold.seats and has - #hold.seats + #seats > tonumber(ARGV[4])
if (#taken > 0 or limited) and ARGV[5] == '' and is_overdue(now) then return {'overdue'} end
if #taken > 0 then return {'taken', unpack(taken)} end
if limited then return {'limit'} end
fan_has(hold.who, #seats - #hold.seats)
hold.seats = seats
local record = keep(id, hold)
mark(given, FREE)
mark(gained, HELD)
return {'changed', record, publish()}
