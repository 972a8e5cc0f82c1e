-- Empties everything, so that it can be filled from the ledger, unless somebody is at it or it is done.
-- KEYS: as the table
-- ARGV: 1 epoch; 2 token; 3 how long the token lives, ms; 4 the bits of a house in which every seat is free
-- Returns: 'begun' | 'busy' | 'done' | 'superseded': this epoch is over
local READY, HOME, REBUILDING = KEYS[8], KEYS[9], KEYS[10]
local epoch = tonumber(ARGV[1])
local ready = tonumber(redis.call('GET', READY) or 0)
if ready > epoch then return 'superseded' end
if ready == epoch then return 'done' end
local at_it = redis.call('GET', REBUILDING)
if at_it then
  local theirs = tonumber(at_it:match('^%d+'))
  if theirs > epoch then return 'superseded' end
  if theirs == epoch and at_it ~= ARGV[1] .. ':' .. ARGV[2] then return 'busy' end
end
redis.call('SET', REBUILDING, ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])
redis.call('DEL', READY, HOME)
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7])
redis.call('SET', KEYS[1], ARGV[4])
redis.call('XADD', KEYS[5], ARGV[1] .. '-1', 'c', '')
return 'begun'
