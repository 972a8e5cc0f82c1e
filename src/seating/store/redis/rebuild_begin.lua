-- Empties the dataset so that it can be filled from the ledger, unless another node is at it or it is done.
-- KEYS: as the table in mod.rs
-- ARGV: 1 epoch; 2 token; 3 ttl of the token, ms; 4 the states of only free seats
-- Returns: 'begun' | 'busy' | 'done' | 'superseded': a later epoch has begun
local READY, DATASET_ID, REBUILD = KEYS[8], KEYS[9], KEYS[10]
local epoch = tonumber(ARGV[1])
local ready = tonumber(redis.call('GET', READY) or 0)
if ready > epoch then return 'superseded' end
if ready == epoch then return 'done' end
local current = redis.call('GET', REBUILD)
if current then
  local theirs = tonumber(current:match('^%d+'))
  if theirs > epoch then return 'superseded' end
  if theirs == epoch and current ~= ARGV[1] .. ':' .. ARGV[2] then return 'busy' end
end
redis.call('SET', REBUILD, ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])
redis.call('DEL', READY, DATASET_ID)
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7])
redis.call('SET', KEYS[1], ARGV[4])
redis.call('XADD', KEYS[5], ARGV[1] .. '-1', 'c', '')
return 'begun'
