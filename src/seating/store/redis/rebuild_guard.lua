-- Stands before the scripts of a rebuild: fails unless the caller still has the token, and renews it.
local READY, DATASET_ID, REBUILD = KEYS[8], KEYS[9], KEYS[10]
local EPOCH = ARGV[#ARGV - 2]
if redis.call('GET', REBUILD) ~= EPOCH .. ':' .. ARGV[#ARGV - 1] then return redis.error_reply('REBUILDING by another node') end
redis.call('PEXPIRE', REBUILD, ARGV[#ARGV])
