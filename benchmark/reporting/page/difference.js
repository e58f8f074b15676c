"use strict";
// Differences of numbers that have intervals.

function signed(value) {
  const text = Math.abs(value).toFixed(1);
  if (Number(text) === 0) return text;
  return value < 0 ? `−${text}` : `+${text}`;
}

// The 95 % interval of a difference of two numbers from their own intervals (Newcombe's squares), as if they had been
// measured on different images: wider than the paired one.
function unpaired(a, b) {
  const difference = a.value - b.value;
  return {
    difference,
    low: difference - Math.hypot(a.value - a.low, b.high - b.value),
    high: difference + Math.hypot(a.high - a.value, b.value - b.low),
  };
}
