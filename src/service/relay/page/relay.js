// The relay's page: positions go out and the world comes in, as messages of bytes over a WebSocket (the same as over UDP).
// What is drawn lies one tick in the past, so that there are two pictures to draw between.
'use strict';

const $ = (id) => document.getElementById(id);
const HELLO = 1, WELCOME = 2, UPDATE = 3, STATE = 4, REFUSAL = 6;
const SIDE = 65536, SIGHT = 16384;
const KEPT = 240; // points of each graph
const BACKOFF_MS = { first: 500, most: 15000 };

let socket = null, tries = 0, ticksPerS = 30, sending = null;
let me = 0, sequence = 0, seen = 0; // seen: the nonce of the latest picture, which is said back
// In the middle, and so near to it that two who come see each other.
const START = SIDE / 2 - SIGHT / 4;
let x = START + Math.random() * SIGHT / 2, y = START + Math.random() * SIGHT / 2;
const sentAt = new Map(); // by sequence, for the way there and back
let before = null, latest = null; // two pictures of the world: {tick, at, others: Map(id -> [x, y])}
const graphs = { late: [], jitter: [], latency: [] };

// --- messages

function message(kind, fill = () => {}) {
  const view = new DataView(new ArrayBuffer(24));
  view.setUint32(0, (0x53420100 | kind) >>> 0); // 'S', 'B', the version, the kind
  fill(view);
  if (socket?.readyState === WebSocket.OPEN) socket.send(view.buffer);
}

function update() {
  sequence = (sequence + 1) >>> 0;
  sentAt.set(sequence, performance.now());
  if (sentAt.size > 200) sentAt.delete(sentAt.keys().next().value);
  message(UPDATE, (view) => {
    view.setUint32(12, sequence);
    view.setUint16(16, Math.round(x));
    view.setUint16(18, Math.round(y));
    view.setUint32(20, seen);
  });
}

function hear(view) {
  if (view.byteLength < 24 || view.getUint32(0) >>> 8 !== 0x534201) return;
  switch (view.getUint8(3)) {
    case WELCOME:
      ticksPerS = view.getUint32(16);
      tries = 0;
      clearInterval(sending);
      sending = setInterval(update, 1000 / ticksPerS);
      update();
      return show('connected', true);
    case STATE:
      return view.byteLength >= 28 && hearState(view);
    case REFUSAL:
      show(view.getUint32(12) === 3 ? 'the world is full' : 'refused', false);
  }
}

function hearState(view) {
  const now = performance.now();
  const tick = view.getUint32(8), heard = view.getUint32(12), held = view.getUint16(16) / 10;
  me = view.getUint32(4);
  seen = view.getUint32(24);
  const others = new Map();
  for (let at = 28; at + 8 <= view.byteLength; at += 8) {
    others.set(view.getUint32(at), [view.getUint16(at + 4), view.getUint16(at + 6)]);
  }
  if (latest) note('jitter', Math.abs(now - latest.at - (tick - latest.tick) * 1000 / ticksPerS));
  note('late', view.getUint32(20) / 1000);
  if (sentAt.has(heard)) {
    note('latency', Math.max(0, now - sentAt.get(heard) - held));
    sentAt.delete(heard);
  }
  before = latest;
  latest = { tick, at: now, others };
}

function note(graph, ms) {
  graphs[graph].push(ms);
  if (graphs[graph].length > KEPT) graphs[graph].shift();
}

// --- the connection

function connect() {
  const url = new URL('ws', location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  const mine = socket = new WebSocket(url, 'switchboard.relay.v1');
  mine.binaryType = 'arraybuffer';
  mine.onopen = () => message(HELLO);
  mine.onmessage = (event) => event.data instanceof ArrayBuffer && hear(new DataView(event.data));
  mine.onclose = () => {
    clearInterval(sending);
    before = latest = null;
    sentAt.clear();
    // As in the chat: not everybody at the same moment.
    const wait = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** tries++) * (0.5 + Math.random() / 2);
    show(`connection lost, trying again in ${Math.ceil(wait / 1000)} s`, false);
    setTimeout(connect, wait);
  };
}

function show(text, on) {
  $('state').textContent = text;
  $('state').className = on ? 'on' : '';
}

// --- moving

const keys = new Set();
const world = $('world');

function moveTo(event) {
  const box = world.getBoundingClientRect();
  x = Math.min(SIDE - 1, Math.max(0, (event.clientX - box.left) / box.width * SIDE));
  y = Math.min(SIDE - 1, Math.max(0, (event.clientY - box.top) / box.height * SIDE));
}

world.addEventListener('pointerdown', (event) => { world.setPointerCapture(event.pointerId); moveTo(event); });
world.addEventListener('pointermove', (event) => (event.pointerType === 'mouse' || event.buttons) && moveTo(event));
addEventListener('keydown', (event) => {
  if (!event.key.startsWith('Arrow')) return;
  event.preventDefault();
  keys.add(event.key);
});
addEventListener('keyup', (event) => keys.delete(event.key));
addEventListener('blur', () => keys.clear());

// --- drawing

let drawnAt = performance.now();

function draw(now) {
  const step = Math.min(100, now - drawnAt) * 20; // a window's width in about three seconds
  drawnAt = now;
  if (keys.has('ArrowLeft')) x = Math.max(0, x - step);
  if (keys.has('ArrowRight')) x = Math.min(SIDE - 1, x + step);
  if (keys.has('ArrowUp')) y = Math.max(0, y - step);
  if (keys.has('ArrowDown')) y = Math.min(SIDE - 1, y + step);
  drawWorld(now);
  for (const name of Object.keys(graphs)) drawGraph(name);
  requestAnimationFrame(draw);
}

/** The canvas's context, in pixels of the page whatever those of the screen are. */
function fit(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

function drawWorld(now) {
  const { context, width, height } = fit(world);
  context.strokeStyle = colour('--line');
  context.beginPath();
  context.ellipse(x / SIDE * width, y / SIDE * height, SIGHT / SIDE * width, SIGHT / SIDE * height, 0, 0, 2 * Math.PI);
  context.stroke();
  if (latest) {
    const part = Math.min(1, (now - latest.at) * ticksPerS / 1000);
    for (const [id, [toX, toY]] of latest.others) {
      const [fromX, fromY] = before?.others.get(id) ?? [toX, toY];
      dot(context, (fromX + (toX - fromX) * part) / SIDE * width, (fromY + (toY - fromY) * part) / SIDE * height, hue(id), id);
    }
  }
  dot(context, x / SIDE * width, y / SIDE * height, colour('--accent'), 'you');
}

const hue = (id) => `hsl(${id * 137 % 360} 65% 50%)`;

function dot(context, atX, atY, fill, name) {
  context.fillStyle = fill;
  context.beginPath();
  context.arc(atX, atY, name === 'you' ? 9 : 7, 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = colour('--ink');
  context.font = '12px system-ui, sans-serif';
  context.textAlign = 'center';
  context.fillText(name, atX, atY - 13);
}

function drawGraph(name) {
  const { context, width, height } = fit($(name));
  const values = graphs[name];
  const most = Math.max(2, ...values);
  context.strokeStyle = colour('--line');
  context.fillStyle = colour('--faint');
  context.font = '11px system-ui, sans-serif';
  context.fillText(`${most.toFixed(most < 10 ? 1 : 0)} ms`, 2, 11);
  context.fillStyle = colour('--accent');
  const wide = width / KEPT;
  values.forEach((value, index) => {
    const tall = Math.max(1, value / most * (height - 14));
    context.fillRect(width - (values.length - index) * wide, height - tall, Math.max(1, wide - 0.5), tall);
  });
}

/** In words, twice a second: for people who can't see the picture. */
function say() {
  const middle = (values) => [...values].sort((one, other) => one - other);
  for (const [name, values] of Object.entries(graphs)) {
    const sorted = middle(values);
    const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))].toFixed(1);
    $(`${name}-now`).textContent = sorted.length ? `${at(0.5)} ms, p99 ${at(0.99)}` : '-';
  }
  const near = latest ? [...latest.others.keys()] : [];
  $('around').textContent = me
    ? `You are ${me}, and see ${near.length} near you${near.length ? ': ' + near.slice(0, 12).join(', ') : ''}${near.length > 12 ? ', ...' : ''}.`
    : '';
}

connect();
setInterval(say, 500);
requestAnimationFrame(draw);
world.focus();
