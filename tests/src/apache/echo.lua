-- Echoes each request as JSON, in the words of the harness's other echo service, and says whom Apache saw.
local function quote(text)
  return '"' .. text:gsub('[%c"\\\127-\255%%]', function(c)
    if c == '"' or c == '\\' then return '\\' .. c end
    return string.format('%%%02X', c:byte())
  end) .. '"'
end

function echo(r)
  -- One failure for each new name: what a proxy that tries again has to get over.
  local failure = r.args and r.args:match('fail=(%w+)')
  if failure and not r:ivm_get(failure) then
    r:ivm_set(failure, 'yes')
    return 503
  end
  local headers = {}
  for name, value in pairs(r:headers_in_table()) do
    headers[#headers + 1] = '[' .. quote(name) .. ',' .. quote(value) .. ']'
  end
  table.sort(headers)
  r.content_type = 'application/json'
  r:puts('{"remote_user":', r.user and quote(r.user) or 'null',
    ',"method":', quote(r.method), ',"target":', quote(r.unparsed_uri),
    ',"headers":[', table.concat(headers, ','), ']}')
  return apache2.OK
end
