-- Applies claims of the ledger.
-- KEYS: as the table in mod.rs
-- ARGV: 1 claims, each: 16 bytes the hold; its record from the state on, after its length in 4 bytes
-- Returns: {seats of another claim, version, changes}
local taken, claims, at = {}, ARGV[1], 1
local placed = {}
while at <= #claims do
  local id, length = claims:sub(at, at + 15), struct.unpack('>I4', claims, at + 16)
  local record = claims:sub(at + 20, at + 19 + length)
  at = at + 20 + length
  local claim, known = decode(record), find(id)
  if known then
    if #known.seats ~= #claim.seats or #without(claim.seats, set_of(known.seats)) > 0 then
      for _, seat in ipairs(claim.seats) do taken[#taken + 1] = seat end
    end
  else
    local unavailable = set_of(those_in(claim.seats, FREE, true))
    for _, seat in ipairs(claim.seats) do
      if placed[seat] then unavailable[seat] = true end
    end
    if next(unavailable) then
      for _, seat in ipairs(claim.seats) do
        if unavailable[seat] then taken[#taken + 1] = seat end
      end
    elseif #claim.seats > 0 then
      keep(id, claim)
      add_hold(id, claim)
      mark(claim.seats, claim.state == 'B' and BOOKED or HELD)
      for _, seat in ipairs(claim.seats) do placed[seat] = true end
    end
  end
end
return {taken, publish()}
