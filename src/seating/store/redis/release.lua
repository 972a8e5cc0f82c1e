-- Ends holds, each only if it is live and its owner's.
-- KEYS: as the table in mod.rs
-- ARGV: 1 the time in tests, else '' for the server's clock; then for each: the hold; its owner
-- Returns: {version, changes, and for each: 1 released | 0 gone}
local now = time(ARGV[1])
local answers = {'', ''}
for i = 2, #ARGV, 2 do
  local hold = live(ARGV[i], ARGV[i + 1], now)
  local is_held = hold and hold.state == 'H'
  if is_held then finish(ARGV[i], hold) end
  answers[#answers + 1] = is_held and 1 or 0
end
answers[1], answers[2] = publish()
return answers
