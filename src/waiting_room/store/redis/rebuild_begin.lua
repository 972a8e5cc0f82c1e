-- Begins a rebuild: the data of an earlier epoch are invalid. The node that raised the epoch rebuilds them, unless a later
-- epoch is being rebuilt already.
-- KEYS ready, rebuilding. ARGV epoch, claim_ttl_ms: when another node may take over. Returns: 1, or 0 when overtaken.
local other = tonumber(redis.call('GET', rebuilding_key) or 0)
if other > tonumber(epoch) then
    return 0
end
redis.call('SET', rebuilding_key, epoch, 'PX', claim_ttl_ms)
redis.call('DEL', ready_key)
return 1
