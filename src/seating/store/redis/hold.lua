-- Gives seats to fans until a deadline: to each, in order, all that she asks for or none. Whatever is looked up or written
-- for several of them is so in one command.
-- KEYS: seats, holds, deadlines, fans, changes, operations, operations_before
-- ARGV: 1 the time in tests, else ''; 2 most seats a fan may have; 3 how long, ms; 4 extensions, 1 byte; 5 '1' to let pass
--       what is overdue; then for each: the hold; its record from the visit on; operation and wish, or ''; each seat's
--       place among the bits
-- Returns: {version, changes, deadline, and for each: 1: held until this deadline | {'held', deadline, extensions}: was
--       before | {'again', hold, record} | {'reused'} | {'limit'} | {'taken', state of each seat} | {'overdue'}: refused,
--       but holds have run out that may stand in the way}
local now = ARGV[1]
if now == '' then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
else
  now = tonumber(now)
end
local most, left = tonumber(ARGV[2]), ARGV[4]
-- A text once, instead of a number that each command writes out anew.
local deadline = '' .. now + ARGV[3]

local asked, get, fans, operations = {}, {}, {}, {''}
local i, g = 6, 0
while i <= #ARGV do
  local tail, operation = ARGV[i + 1], ARGV[i + 2]
  local n = tail:byte(17) * 256 + tail:byte(18)
  local who = tail:sub(19 + 4 * n)
  local ask = {at = i + 2, n = n, states_at = g, id = ARGV[i], tail = tail, who = who}
  for j = i + 3, i + 2 + n do
    local k = 3 * g
    get[k + 1], get[k + 2], get[k + 3] = 'GET', 'u2', ARGV[j]
    g = g + 1
  end
  asked[#asked + 1] = ask
  fans[#fans + 1] = who
  if operation ~= '' then
    operations[#operations + 1] = operation:sub(1, 16)
    ask.operation, ask.wish, ask.operation_at = operation:sub(1, 16), operation:sub(17), #operations
  end
  i = i + 3 + n
end
local states = redis.call('BITFIELD', KEYS[1], unpack(get))
local counts = redis.call('HMGET', KEYS[4], unpack(fans))
local done, done_before
if #operations > 1 then
  done = redis.call('HMGET', KEYS[6], unpack(operations))
  done_before = redis.call('HMGET', KEYS[7], unpack(operations))
end

local answers, has, taken, texts = {'', '', deadline}, {}, {}, {}
local set, records, due, counted, changes, remembered = {}, {}, {}, {}, {}, {}
local overdue
local function answer(ask, number)
  if ask.operation then
    local was = remembered[ask.operation] or done[ask.operation_at] or done_before[ask.operation_at]
    local again = answer_of(was, ask.wish, KEYS[2], now)
    if again then return again end
  end
  local had = has[ask.who] or tonumber(counts[number] or 0)
  local is_limited, is_free = had + ask.n > most, true
  for j = 1, ask.n do
    if states[ask.states_at + j] ~= 0 then
      is_free = false
    elseif taken[ARGV[ask.at + j]] then
      is_free = false
      states[ask.states_at + j] = 1
    end
  end
  if is_limited or not is_free then
    -- The same call, sent again because its answer was lost.
    local record = redis.call('HGET', KEYS[2], ask.id)
    if record then return {'held', record:sub(3, 15), record:byte(2)} end
    if overdue == nil then
      overdue = ARGV[5] == '' and redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1)[1] ~= nil
    end
    if overdue then return {'overdue'} end
    if is_limited then return {'limit'} end
    local refused = {'taken'}
    for j = 1, ask.n do refused[j + 1] = states[ask.states_at + j] end
    return refused
  end
  has[ask.who] = had + ask.n
  local s = #set
  for j = ask.at + 1, ask.at + ask.n do
    local bit = ARGV[j]
    taken[bit] = true
    set[s + 1], set[s + 2], set[s + 3], set[s + 4] = 'SET', 'u2', bit, '1'
    s = s + 4
  end
  local record, r = 'H' .. left .. deadline .. ask.tail, #records
  records[r + 1], records[r + 2] = ask.id, record
  due[r + 1], due[r + 2] = deadline, ask.id
  changes[#changes + 1] = '\1' .. ask.tail:sub(17, 18 + 4 * ask.n)
  if ask.operation then remembered[ask.operation] = now .. ask.wish .. ask.id .. record end
  return 1
end
for number, ask in ipairs(asked) do answers[3 + number] = answer(ask, number) end
if #records == 0 then return answers end

redis.call('BITFIELD', KEYS[1], unpack(set))
redis.call('HSET', KEYS[2], unpack(records))
redis.call('ZADD', KEYS[3], unpack(due))
for who, count in pairs(has) do
  local text = texts[count] or tostring(count)
  texts[count] = text
  counted[#counted + 1], counted[#counted + 2] = who, text
end
redis.call('HSET', KEYS[4], unpack(counted))
if next(remembered) then
  local begun = done[1]
  if begun and (now - tonumber(begun) > MEMORY_MS or redis.call('HLEN', KEYS[6]) > KEPT) then
    redis.call('UNLINK', KEYS[7])
    redis.call('RENAME', KEYS[6], KEYS[7])
    begun = nil
  end
  local fields = begun and {} or {'', now}
  for operation, what in pairs(remembered) do
    fields[#fields + 1] = operation
    fields[#fields + 1] = what
  end
  redis.call('HSET', KEYS[6], unpack(fields))
end
answers[2] = table.concat(changes)
answers[1] = redis.call('XADD', KEYS[5], EPOCH .. '-*', 'c', answers[2])
return answers
