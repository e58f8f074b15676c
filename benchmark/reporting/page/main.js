"use strict";
// The view that the link names; then whatever it changes to.

const follow = () => change(read(location.hash, allowed));
addEventListener("hashchange", follow);
follow();
