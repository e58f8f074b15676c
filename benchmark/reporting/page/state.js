"use strict";
// What is shown, as one object that is the #hash: what a reader can link to. A hash that cannot be read is ignored.

function island(name) {
  return JSON.parse(document.getElementById(`data-${name}`).textContent);
}

const start = Object.freeze(island("start"));
let state = { ...start };
const watchers = [];

function change(changes) {
  state = { ...state, ...changes };
  const hash = written(state);
  if (hash !== location.hash.slice(1)) history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  for (const watcher of watchers) watcher(state);
}

function written(view) {
  const said = new URLSearchParams();
  for (const name of Object.keys(start)) {
    if (view[name] !== start[name]) said.set(name, String(view[name]));
  }
  return said.toString();
}

// allowed: name -> whether a word may stand there
function read(hash, allowed) {
  const view = { ...start };
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  for (const name of Object.keys(start)) {
    const word = said.get(name);
    if (word === null) continue;
    if (typeof start[name] === "boolean") {
      if (word === "true" || word === "false") view[name] = word === "true";
    } else if (word.length <= 2000 && (!allowed[name] || allowed[name](word))) view[name] = word;
  }
  return view;
}

function make(tag, words, ...inside) {
  const element = document.createElement(tag);
  if (words) element.textContent = words;
  element.append(...inside);
  return element;
}

function say(words) {
  document.getElementById("said").textContent = words;
}
