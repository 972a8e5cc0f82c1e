-- Remembered operations; it stands before the scripts that ask for them. Two hashes: of this while and of the one before,
-- the field '' says when this while began. An operation: when, 13 digits; its wish, 16 bytes; the hold, 16 bytes; the
-- hold's record as it was made.
local MEMORY_MS, KEPT = 600000, 65536

-- The answer to what was done; nil when it is too long ago, or was not.
local function answer_of(done, wish, holds, now)
  if not done or tonumber(done:sub(1, 13)) < now - MEMORY_MS then return nil end
  if done:sub(14, 29) ~= wish then return {'reused'} end
  local id = done:sub(30, 45)
  local record = redis.call('HGET', holds, id)
  if not record or record:sub(1, 1) == 'B' then record = done:sub(46) end
  return {'again', id, record}
end

