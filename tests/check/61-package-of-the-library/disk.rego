package keyward.mine

default allow := false
