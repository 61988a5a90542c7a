-- Remove a record with all that it owns.
-- KEYS: as in write.lua
-- ARGV: the v that must stand, tenant, id, the time seen, channel, writer
-- Answers: what happened, v, now.
local record, clock = KEYS[1], KEYS[4]
local tenant, id = ARGV[2], ARGV[3]
local was = redis.call('HMGET', record, 'v', 'due', unpack(fields))
local now = time(clock, ARGV[4])
if not was[1] then
  if redis.call('EXISTS', record) == 1 then return {'edited', '0', whole(now)} end
  redis.call('SET', clock, whole(now))
  return {'won', '0', whole(now)}
end
if was[1] ~= ARGV[1] then return {'lost', was[1], whole(now)} end

local changes = {}
move(changes, KEYS[5], tenant .. id, nil)
move(changes, KEYS[6], was[2] and tenant .. was[2] .. id, nil)
for n in ipairs(fields) do
  move(changes, KEYS[6 + n], was[2 + n] and tenant .. was[2 + n] .. '\0\0' .. id, nil)
end
changes[#changes + 1] = {'UNLINK', KEYS[1], KEYS[2], KEYS[3]}
done(changes, clock, now, ARGV[5], ARGV[6])
return {'won', '0', whole(now)}
