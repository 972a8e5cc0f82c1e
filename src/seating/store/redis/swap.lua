-- Replaces the seats of a hold.
-- KEYS: as the table in mod.rs
-- ARGV: 1 the time in tests, else '' for the server's clock; 2 hold; 3 its owner; 4 most seats of one subject;
--       5 '1' if this is the last attempt, '' to be told of expired holds that may be in the way; 6... the seats
-- Returns: {'changed', record, version, changes} | {'gone'} | {'limit'} | {'taken', seats...} | {'overdue'}
local now, id = time(ARGV[1]), ARGV[2]
local hold = live(id, ARGV[3], now)
if not hold or hold.state ~= 'H' then return {'gone'} end
local seats = numbers(6)
local gained = without(seats, set_of(hold.seats))
local released = without(hold.seats, set_of(seats))
local taken = those_in(gained, FREE, true)
local has = holder(hold.subject)
local is_limited = #seats > #hold.seats and has - #hold.seats + #seats > tonumber(ARGV[4])
if (#taken > 0 or is_limited) and ARGV[5] == '' and is_overdue(now) then return {'overdue'} end
if #taken > 0 then return {'taken', unpack(taken)} end
if is_limited then return {'limit'} end
add_seats(hold.subject, #seats - #hold.seats)
hold.seats = seats
local record = keep(id, hold)
mark(released, FREE)
mark(gained, HELD)
return {'changed', record, publish()}
