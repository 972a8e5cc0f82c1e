-- Holds seats until a deadline: for each request, in order, all of its seats or none. Each command reads or writes for all
-- requests at once, and seats by the 32-bit word of sixteen states that they are in (seat_words.rs).
-- KEYS: as the table in mod.rs, up to `changes`; with idempotency keys up to `completed_before`
-- ARGV: 1 the time in tests, else '' for the server's clock; 2 most seats of one subject; 3 ttl, ms; 4 extensions, 1 byte;
--       5 '1' if this is the last attempt, '' to be told of expired holds that may be in the way; then for each request:
--       the hold; its record from the visit on; number of words, 1 byte, and behind it key hash and request hash, if any;
--       of each word its bit offset, and a one for each requested seat in it
-- Returns: {version, changes, deadline, and for each request: 1: held until this deadline | {'held', deadline, extensions}:
--       the same call was done before | {'replayed', hold, record} | {'reused'} | {'limit'} | {'taken', each word as found}
--       | {'overdue'}: refused, but expired holds may be in the way}
local now = ARGV[1]
if now == '' then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
else
  now = tonumber(now)
end
local seats_max, extensions = tonumber(ARGV[2]), ARGV[4]
-- A string once, instead of a number that each command would format anew.
local deadline = '' .. now + ARGV[3]
local ARGV, band = ARGV, bit.band

-- Of each request: where its arguments begin and its words end, number of seats, subject, and the index of its key hash
-- among those looked up.
local begins, ends, sizes, subjects, key_at = {}, {}, {}, {}, {}
local word_at, get, key_hashes = {}, {}, {''}
local i, count, word = 6, 0, 0
while i <= #ARGV do
  local tail, header = ARGV[i + 1], ARGV[i + 2]
  local size = tail:byte(17) * 256 + tail:byte(18)
  local last = i + 2 + 2 * header:byte(1)
  count = count + 1
  begins[count], ends[count], sizes[count], subjects[count] = i, last, size, tail:sub(19 + 4 * size)
  for j = i + 3, last, 2 do
    local at = ARGV[j]
    if not word_at[at] then
      local k = 3 * word
      get[k + 1], get[k + 2], get[k + 3] = 'GET', 'u32', at
      word = word + 1
      word_at[at] = word
    end
  end
  if #header > 1 then
    key_hashes[#key_hashes + 1] = header:sub(2, 17)
    key_at[count] = #key_hashes
  end
  i = last + 1
end
local words = redis.call('BITFIELD', KEYS[1], unpack(get))
local holders = redis.call('HMGET', KEYS[4], unpack(subjects))
local done, done_before
if #key_hashes > 1 then
  done = redis.call('HMGET', KEYS[6], unpack(key_hashes))
  done_before = redis.call('HMGET', KEYS[7], unpack(key_hashes))
end

local newly_done = {}
-- The reply to an earlier request with the same key, if there was one.
local function earlier_reply(number)
  local header = ARGV[begins[number] + 2]
  local was = newly_done[header:sub(2, 17)] or done[key_at[number]] or done_before[key_at[number]]
  return completed_reply(was, header:sub(18), KEYS[2], now)
end

local overdue
local function refusal(number, is_limited)
  -- The same call, sent again because its reply was lost.
  local record = redis.call('HGET', KEYS[2], ARGV[begins[number]])
  if record then return {'held', record:sub(3, 15), record:byte(2)} end
  if overdue == nil then
    overdue = ARGV[5] == '' and redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1)[1] ~= nil
  end
  if overdue then return {'overdue'} end
  if is_limited then return {'limit'} end
  local taken = {'taken'}
  for j = begins[number] + 3, ends[number], 2 do taken[#taken + 1] = words[word_at[ARGV[j]]] end
  return taken
end

-- Of each subject: how many seats it has, and the ids of its holds; read when its first request comes.
local totals, ids = {}, {}
local function seats_of(number)
  local subject = subjects[number]
  if not totals[subject] then
    local count, known = (holders[number] or '0'):match('^(%d+) ?(.*)$')
    totals[subject], ids[subject] = tonumber(count), known
  end
  return totals[subject]
end

local replies, changed_words, has_more = {'', '', deadline}, {}, {}
local records, due, changes = {}, {}, {}
local r, c = 0, 0
local head = 'H' .. extensions .. deadline
for number = 1, count do
  local begin, last, subject = begins[number], ends[number], subjects[number]
  local reply = key_at[number] and earlier_reply(number)
  if not reply then
    local total = seats_of(number) + sizes[number]
    local is_limited, is_free = total > seats_max, true
    for j = begin + 3, last, 2 do
      if band(words[word_at[ARGV[j]]], 3 * ARGV[j + 1]) ~= 0 then is_free = false end
    end
    if is_limited or not is_free then
      reply = refusal(number, is_limited)
    else
      totals[subject], ids[subject], has_more[subject] = total, ids[subject] .. ARGV[begin], true
      for j = begin + 3, last, 2 do
        local at = word_at[ARGV[j]]
        -- The state `held` is 1, and the seat's two bits are zero: adding sets them.
        words[at] = words[at] + ARGV[j + 1]
        changed_words[ARGV[j]] = at
      end
      local id, tail = ARGV[begin], ARGV[begin + 1]
      local record = head .. tail
      records[r + 1], records[r + 2] = id, record
      due[r + 1], due[r + 2] = deadline, id
      r, c = r + 2, c + 1
      changes[c] = '\1' .. tail:sub(17, 18 + 4 * sizes[number])
      if key_at[number] then
        local header = ARGV[begin + 2]
        newly_done[header:sub(2, 17)] = now .. header:sub(18) .. id .. record
      end
      reply = 1
    end
  end
  replies[3 + number] = reply
end
if r == 0 then return replies end

local set, s = {}, 0
for at, number in pairs(changed_words) do
  set[s + 1], set[s + 2], set[s + 3], set[s + 4] = 'SET', 'u32', at, words[number]
  s = s + 4
end
redis.call('BITFIELD', KEYS[1], unpack(set))
redis.call('HSET', KEYS[2], unpack(records))
redis.call('ZADD', KEYS[3], unpack(due))
local counted, n = {}, 0
for subject in pairs(has_more) do
  counted[n + 1], counted[n + 2] = subject, totals[subject] .. ' ' .. ids[subject]
  n = n + 2
end
redis.call('HSET', KEYS[4], unpack(counted))
if next(newly_done) then
  local begun = done[1]
  if begun and (now - tonumber(begun) > RETENTION_MS or redis.call('HLEN', KEYS[6]) > REQUESTS_MAX) then
    redis.call('UNLINK', KEYS[7])
    redis.call('RENAME', KEYS[6], KEYS[7])
    begun = nil
  end
  local fields = begun and {} or {'', now}
  for key_hash, request in pairs(newly_done) do
    fields[#fields + 1] = key_hash
    fields[#fields + 1] = request
  end
  redis.call('HSET', KEYS[6], unpack(fields))
end
replies[2] = table.concat(changes)
replies[1] = redis.call('XADD', KEYS[5], EPOCH .. '-*', 'c', replies[2])
return replies
