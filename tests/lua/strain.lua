-- A helper for busted: the garbage collector never rests.
collectgarbage("setpause", 0)
collectgarbage("setstepmul", 400)
