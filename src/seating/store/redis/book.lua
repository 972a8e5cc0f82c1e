-- Follows the ledger, which has sold the seats.
-- KEYS: as the table
-- ARGV: 1 hold; 2 whose; 3 '1' to book also what is held by nobody who can be found; 4 how many holds may stand in the
--       way; 5... these holds, then the seats
-- Returns: {'booked', version, changes} | {'taken', seats...} | {'in_the_way', seats...}: held by holds that were not named
local id, who, rivals = ARGV[1], ARGV[2], tonumber(ARGV[4])
local seats = numbers(5 + rivals)
local before = find(id)
local own = before and before.seats or {}
local foreign = without(seats, set_of(own))
local taken = those_in(foreign, BOOKED)
if #taken > 0 then return {'taken', unpack(taken)} end

local held = set_of(those_in(foreign, HELD))
local ended = {}
for i = 5, 4 + rivals do
  local rival = ARGV[i] ~= id and not ended[ARGV[i]] and find(ARGV[i])
  if rival and rival.state ~= 'B' then
    for _, seat in ipairs(rival.seats) do
      if held[seat] then ended[ARGV[i]] = rival end
    end
  end
end
for _, rival in pairs(ended) do
  for _, seat in ipairs(rival.seats) do held[seat] = nil end
end
if ARGV[3] == '' and next(held) then
  local left = {'in_the_way'}
  for seat in pairs(held) do left[#left + 1] = seat end
  return left
end

for name, rival in pairs(ended) do finish(name, rival) end
-- Seats of an earlier booking through the same hold stay; what was only held besides does not.
local booked_before = before and before.state == 'B'
local newly = booked_before and foreign or seats
local booked = {unpack(seats)}
if booked_before then
  for _, seat in ipairs(without(own, set_of(seats))) do booked[#booked + 1] = seat end
end
if before then fan_has(before.who, -#own) end
fan_has(who, #booked)
mark(without(own, set_of(booked)), FREE)
mark(newly, BOOKED)
local visit = before and before.visit or string.rep('\0', 16)
keep(id, {state = 'B', left = 0, deadline = 0, visit = visit, seats = booked, who = who})
return {'booked', publish()}
