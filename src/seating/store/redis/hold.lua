-- Gives seats to fans until a deadline: to each, in order, all that she asks for or none. Whatever is looked up or written
-- for several of them is so in one command, and seats by the word of sixteen in which their states stand.
-- KEYS: seats, holds, deadlines, fans, changes, operations, operations_before
-- ARGV: 1 the time in tests, else ''; 2 most seats a fan may have; 3 how long, ms; 4 extensions, 1 byte; 5 '1' to let pass
--       what is overdue; then for each: the hold; its record from the visit on; how many words, 1 byte, and behind it
--       operation and wish, if any; of each word its place among the bits, and a one for each seat in it that she wants
-- Returns: {version, changes, deadline, and for each: 1: held until this deadline | {'held', deadline, extensions}: was
--       before | {'again', hold, record} | {'reused'} | {'limit'} | {'taken', each word} | {'overdue'}: refused, but holds
--       have run out that may stand in the way}
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
local ARGV, band = ARGV, bit.band

-- Of each: where her arguments begin and her words end, how many seats, who; where an operation stands among those asked for.
local begins, ends, sizes, fans, asked = {}, {}, {}, {}, {}
local place, get, operations = {}, {}, {''}
local i, fan, word = 6, 0, 0
while i <= #ARGV do
  local tail, operation = ARGV[i + 1], ARGV[i + 2]
  local size = tail:byte(17) * 256 + tail:byte(18)
  local last = i + 2 + 2 * operation:byte(1)
  fan = fan + 1
  begins[fan], ends[fan], sizes[fan], fans[fan] = i, last, size, tail:sub(19 + 4 * size)
  for j = i + 3, last, 2 do
    local at = ARGV[j]
    if not place[at] then
      local k = 3 * word
      get[k + 1], get[k + 2], get[k + 3] = 'GET', 'u32', at
      word = word + 1
      place[at] = word
    end
  end
  if #operation > 1 then
    operations[#operations + 1] = operation:sub(2, 17)
    asked[fan] = #operations
  end
  i = last + 1
end
local words = redis.call('BITFIELD', KEYS[1], unpack(get))
local counts = redis.call('HMGET', KEYS[4], unpack(fans))
local done, done_before
if #operations > 1 then
  done = redis.call('HMGET', KEYS[6], unpack(operations))
  done_before = redis.call('HMGET', KEYS[7], unpack(operations))
end

local remembered = {}
-- What came of her operation before, if anything.
local function again(number)
  local operation = ARGV[begins[number] + 2]
  local was = remembered[operation:sub(2, 17)] or done[asked[number]] or done_before[asked[number]]
  return answer_of(was, operation:sub(18), KEYS[2], now)
end

local overdue
local function refusal(number, is_limited)
  -- The same call, sent again because its answer was lost.
  local record = redis.call('HGET', KEYS[2], ARGV[begins[number]])
  if record then return {'held', record:sub(3, 15), record:byte(2)} end
  if overdue == nil then
    overdue = ARGV[5] == '' and redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1)[1] ~= nil
  end
  if overdue then return {'overdue'} end
  if is_limited then return {'limit'} end
  local taken = {'taken'}
  for j = begins[number] + 3, ends[number], 2 do taken[#taken + 1] = words[place[ARGV[j]]] end
  return taken
end

local answers, has, touched = {'', '', deadline}, {}, {}
local records, due, changes = {}, {}, {}
local r, c = 0, 0
local head = 'H' .. left .. deadline
for number = 1, fan do
  local begin, last, who = begins[number], ends[number], fans[number]
  local answer = asked[number] and again(number)
  if not answer then
    local had = (has[who] or tonumber(counts[number] or 0)) + sizes[number]
    local is_limited, is_free = had > most, true
    for j = begin + 3, last, 2 do
      if band(words[place[ARGV[j]]], 3 * ARGV[j + 1]) ~= 0 then is_free = false end
    end
    if is_limited or not is_free then
      answer = refusal(number, is_limited)
    else
      has[who] = had
      for j = begin + 3, last, 2 do
        local at = place[ARGV[j]]
        -- A held seat's state is 1.
        words[at] = words[at] + ARGV[j + 1]
        touched[ARGV[j]] = at
      end
      local id, tail = ARGV[begin], ARGV[begin + 1]
      local record = head .. tail
      records[r + 1], records[r + 2] = id, record
      due[r + 1], due[r + 2] = deadline, id
      r, c = r + 2, c + 1
      changes[c] = '\1' .. tail:sub(17, 18 + 4 * sizes[number])
      if asked[number] then
        local operation = ARGV[begin + 2]
        remembered[operation:sub(2, 17)] = now .. operation:sub(18) .. id .. record
      end
      answer = 1
    end
  end
  answers[3 + number] = answer
end
if r == 0 then return answers end

local set, s = {}, 0
for at, number in pairs(touched) do
  set[s + 1], set[s + 2], set[s + 3], set[s + 4] = 'SET', 'u32', at, words[number]
  s = s + 4
end
redis.call('BITFIELD', KEYS[1], unpack(set))
redis.call('HSET', KEYS[2], unpack(records))
redis.call('ZADD', KEYS[3], unpack(due))
local counted, n = {}, 0
for who, count in pairs(has) do
  counted[n + 1], counted[n + 2] = who, count
  n = n + 2
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
