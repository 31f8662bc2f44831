module treadle.bench

go 1.19
