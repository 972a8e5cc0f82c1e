-- Records a booking of the ledger.
-- KEYS: as the table in mod.rs
-- ARGV: 1 hold; 2 its owner; 3 '1' to book also seats whose hold was not found; 4 number of holds to end if they have
--       one of the seats; 5... these holds, then the seats
-- Returns: {'booked', version, changes} | {'taken', seats...} | {'blocked', seats...}: in holds that were not named
local id, subject, others = ARGV[1], ARGV[2], tonumber(ARGV[4])
local seats = numbers(5 + others)
local before = find(id)
local own = before and before.seats or {}
local foreign = without(seats, set_of(own))
local taken = those_in(foreign, BOOKED)
if #taken > 0 then return {'taken', unpack(taken)} end

local held = set_of(those_in(foreign, HELD))
local ended = {}
for i = 5, 4 + others do
  local other = ARGV[i] ~= id and not ended[ARGV[i]] and find(ARGV[i])
  if other and other.state ~= 'B' then
    for _, seat in ipairs(other.seats) do
      if held[seat] then ended[ARGV[i]] = other end
    end
  end
end
for _, other in pairs(ended) do
  for _, seat in ipairs(other.seats) do held[seat] = nil end
end
if ARGV[3] == '' and next(held) then
  local left = {'blocked'}
  for seat in pairs(held) do left[#left + 1] = seat end
  return left
end

for name, other in pairs(ended) do finish(name, other) end
-- Seats of an earlier booking through the same hold stay; seats that were only held besides do not.
local booked_before = before and before.state == 'B'
local newly = booked_before and foreign or seats
local booked = {unpack(seats)}
if booked_before then
  for _, seat in ipairs(without(own, set_of(seats))) do booked[#booked + 1] = seat end
end
local visit = before and before.visit or string.rep('\0', 16)
local booking = {state = 'B', left = 0, deadline = 0, visit = visit, seats = booked, subject = subject}
if before then remove_hold(id, before) end
add_hold(id, booking)
mark(without(own, set_of(booked)), FREE)
mark(newly, BOOKED)
keep(id, booking)
return {'booked', publish()}
