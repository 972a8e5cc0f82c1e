-- How many other nodes have not applied this record yet.
-- KEYS node_applied. ARGV node: the one that asks, seq. Returns: the number of nodes.
local behind = redis.call('ZCOUNT', node_applied_key, '-inf', '(' .. seq)
local own = redis.call('ZSCORE', node_applied_key, node)
if own and tonumber(own) < tonumber(seq) then
    behind = behind - 1
end
return behind
