-- SPDX-License-Identifier: MIT
-- wrk's summary, for a program to read
function done(summary)
    local e = summary.errors
    io.write(string.format('{"requests": %d, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\n',
        summary.requests, e.connect, e.read, e.write, e.status, e.timeout))
end
