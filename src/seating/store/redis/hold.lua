-- Gives all the seats to a fan until a deadline, or none.
-- KEYS: seats, holds, deadlines, fans, changes, operations, operations_before
-- ARGV: 1 the time in tests, else ''; 2 hold; 3 whose; 4 most seats she may have; 5 how long, ms; 6 extensions, 1 byte;
--       7 the record from the visit on; 8 the changes; 9 operation, or ''; 10 its wish; 11 '1' to let pass what is
--       overdue; 12... each seat's place among the bits
-- Returns: {'held', deadline, extensions, version} | {'again', hold, record} | {'reused'} | {'limit'}
--        | {'taken', state of each seat} | {'overdue'}: refused, but holds have run out that may stand in the way
local now = ARGV[1]
if now == '' then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
else
  now = tonumber(now)
end
local operation, begun = ARGV[9]
if operation ~= '' then
  local again
  again, begun = recall(KEYS[6], KEYS[7], KEYS[2], operation, ARGV[10], now)
  if again then return again end
end
local get, set, n = {}, {}, 0
for i = 12, #ARGV do
  local at = ARGV[i]
  local g, s = 3 * n, 4 * n
  get[g + 1], get[g + 2], get[g + 3] = 'GET', 'u2', at
  set[s + 1], set[s + 2], set[s + 3], set[s + 4] = 'SET', 'u2', at, '1'
  n = n + 1
end
local states, most = redis.call('BITFIELD', KEYS[1], unpack(get)), tonumber(ARGV[4])
local is_free, is_limited = true, false
for i = 1, n do is_free = is_free and states[i] == 0 end
if is_free then
  local has = redis.call('HINCRBY', KEYS[4], ARGV[3], n)
  is_limited = has > most
  -- Back again; a fan without seats is not kept.
  if is_limited and has == n then
    redis.call('HDEL', KEYS[4], ARGV[3])
  elseif is_limited then
    redis.call('HINCRBY', KEYS[4], ARGV[3], -n)
  end
else
  is_limited = (redis.call('HGET', KEYS[4], ARGV[3]) or 0) + n > most
end
if is_limited or not is_free then
  -- The same call, sent again because its answer was lost.
  local record = redis.call('HGET', KEYS[2], ARGV[2])
  if record then return {'held', record:sub(3, 15), record:byte(2), ''} end
  if ARGV[11] == '' and redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 1)[1] then return {'overdue'} end
  if is_limited then return {'limit'} end
  return {'taken', unpack(states)}
end
-- A text once, instead of a number that each command writes out anew.
local deadline = '' .. now + tonumber(ARGV[5])
local record = 'H' .. ARGV[6] .. deadline .. ARGV[7]
redis.call('BITFIELD', KEYS[1], unpack(set))
redis.call('HSET', KEYS[2], ARGV[2], record)
redis.call('ZADD', KEYS[3], deadline, ARGV[2])
if operation ~= '' then
  local done = now .. ARGV[10] .. ARGV[2] .. record
  if begun and (now - tonumber(begun) > MEMORY_MS or redis.call('HLEN', KEYS[6]) > KEPT) then
    redis.call('UNLINK', KEYS[7])
    redis.call('RENAME', KEYS[6], KEYS[7])
    begun = nil
  end
  if begun then
    redis.call('HSET', KEYS[6], operation, done)
  else
    redis.call('HSET', KEYS[6], '', now, operation, done)
  end
end
local version = redis.call('XADD', KEYS[5], EPOCH .. '-*', 'c', ARGV[8])
return {'held', deadline, string.byte(ARGV[6]), version}
