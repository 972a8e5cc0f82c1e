-- The subject's live holds.
-- KEYS: as the table in mod.rs
-- ARGV: 1 the time in tests, else '' for the server's clock; 2 the subject
-- Returns: {of each: hold, record}
local now = time(ARGV[1])
local found = {}
local _, ids = holder(ARGV[2])
for at = 1, #ids, 16 do
  local id = ids:sub(at, at + 15)
  local hold = live(id, ARGV[2], now)
  if hold then
    found[#found + 1] = id
    found[#found + 1] = encode(hold)
  end
end
return found
