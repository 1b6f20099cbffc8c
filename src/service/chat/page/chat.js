// The chat's page: one WebSocket, and what comes over it as text. Nothing from others is ever markup: whatever is
// shown goes through textContent.
'use strict';

const $ = (id) => document.getElementById(id);
const SHOWN_MAX = 1000; // older entries leave the page
const NICK_CHARS_MAX = 24; // the server's limit, in characters and not in units of UTF-16
const TEXT_BYTES_MAX = 4000; // the server's limit, in bytes of UTF-8
const BACKOFF_MS = { first: 500, most: 15000 };
const REFRESH_MS = { first: 3000, more: 7000 }; // until a list that has become stale is asked for, and a random part

let socket = null;
let me = '', room = '';
let tries = 0, retry = null; // since the connection was lost
let wanted = false; // we are in a room, or want to be again
let next = null, gapTold = false; // the next number that the room is told, and whether we know that some are missing
let unread = 0;
const seen = new Set(); // what is on the page, so that history is not shown twice
const members = new Set(); // of a large room, those of the first page
let count = 0; // of all members
let refresh = null; // the timer until the list is asked for again
let refreshing = false; // it was, by ourselves and not by the user
let seat = ''; // the server's secret, with which another connection of ours takes our place
let waiting = []; // what was said and has not come back from the server, in order
let returning = false; // we are back, and what came meanwhile is not all here yet: then what waits is sent
try { seat = sessionStorage.getItem('seat') ?? ''; } catch { /* private windows may have none */ }

// --- the connection

function connect() {
  clearTimeout(retry);
  retry = null;
  show('connecting ...');
  const url = new URL('ws', location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  url.hash = '';
  const mine = socket = new WebSocket(url, 'switchboard.chat.v1');
  mine.onopen = () => join();
  mine.onmessage = (event) => mine === socket && hear(JSON.parse(event.data));
  mine.onclose = () => mine === socket && lost();
}

function lost() {
  socket = null;
  next = null;
  refreshing = false;
  stopRefreshing();
  if (!wanted) return show('not connected');
  // Everybody was cut off at the same moment: a random part, so that not everybody comes back at the same one.
  const wait = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** tries++) * (0.5 + Math.random() / 2);
  show(`connection lost, trying again in ${Math.ceil(wait / 1000)} s`);
  retry = setTimeout(connect, wait);
}

function join() {
  return ask(seat ? { type: 'join', room, nick: me, seat } : { type: 'join', room, nick: me });
}

function ask(what) {
  if (socket?.readyState !== WebSocket.OPEN) return false;
  socket.send(JSON.stringify(what));
  return true;
}

addEventListener('online', () => retry && connect());

function show(state) {
  $('state').textContent = state;
  $('state').className = state === 'connected' ? 'on' : '';
}

// --- what we hear

const heard = {
  joined(event) {
    tries = 0;
    wanted = true;
    me = event.nick;
    if (event.room !== room) {
      $('log').replaceChildren();
      seen.clear();
    }
    room = event.room;
    next = event.seq + 1;
    gapTold = false;
    seat = event.seat;
    try { sessionStorage.setItem('seat', seat); } catch { /* as above */ }
    history.replaceState(null, '', '#' + encodeURIComponent(room));
    list(event);
    $('title').textContent = room;
    $('topic').textContent = event.topic;
    $('door').hidden = true;
    $('room').hidden = false;
    $('refusal').textContent = '';
    $('problem').textContent = '';
    show('connected');
    // The answer comes behind what was said meanwhile: what waits and is not among it did not arrive.
    returning = waiting.length > 0;
    if (returning) refreshing = ask({ type: 'who' });
    people();
    title();
    $('text').focus();
  },
  said(event) {
    if (event.nick === me) arrived();
    entry(event, event.nick === me ? 'mine' : '', event.nick, event.text);
  },
  told(event) {
    if (event.nick === me) arrived();
    entry(event, 'told', event.nick === me ? `to ${isolated(event.to)}` : `${isolated(event.nick)}, to you`, event.text);
  },
  came(event) {
    if (!members.has(event.nick)) count++;
    members.add(event.nick);
    people();
    news(event, `${isolated(event.nick)} came in`);
  },
  went(event) {
    count--;
    members.delete(event.nick);
    people();
    news(event, `${isolated(event.nick)} left`);
  },
  // Several came, left or changed their names: first all that are gone, then all that are there.
  roster(event) {
    count = event.count;
    event.went.forEach((nick) => members.delete(nick));
    event.renamed.forEach((it) => members.delete(it.nick));
    event.renamed.forEach((it) => members.add(it.to));
    event.came.forEach((nick) => members.add(nick));
    people();
    const others = (nick) => nick !== me;
    const told = [
      [event.went.map(isolated), 'left'],
      [event.renamed.map((it) => `${isolated(it.nick)} (now ${isolated(it.to)})`), 'changed their names'],
      [event.came.filter(others).map(isolated), 'came in'],
    ];
    const text = told.filter(([names]) => names.length > 0).map(([names, did]) => `${names.join(', ')} ${did}`);
    if (event.more > 0) {
      text.push(`${event.more} more came or left`);
      askForList();
    }
    if (text.length > 0) news(event, text.join('; '));
  },
  renamed(event) {
    if (event.nick === me) {
      me = event.to;
      keepName();
    }
    members.delete(event.nick);
    members.add(event.to);
    people();
    news(event, `${isolated(event.nick)} is now ${isolated(event.to)}`);
  },
  topic(event) {
    $('topic').textContent = event.text;
    if (event.nick) news(event, `${isolated(event.nick)} set the topic: ${isolated(event.text)}`);
  },
  members(event) {
    if (!event.after) {
      list(event);
      people();
    }
    const more = event.next ? `, ... (more: /who ${isolated(event.next)})` : '';
    if (!refreshing) news(event, `${event.count} here: ${event.members.map(isolated).join(', ')}${more}`);
    refreshing = false;
    if (returning) {
      returning = false;
      const again = waiting;
      waiting = [];
      again.forEach(speak);
    }
  },
  rooms(event) {
    const more = event.next ? `, ... (more: /rooms ${event.next})` : '';
    const rooms = event.rooms.length === 1 ? '1 room' : `${event.rooms.length} rooms`;
    news(event, `${rooms}: ` + event.rooms.map((it) => `${isolated(it.room)} (${it.count})`).join(', ') + more);
  },
  left() {
    wanted = false;
    leave('');
  },
  gap(event) {
    gapTold = true;
    news(event, `${event.missed} messages were missed here`, 'gap');
  },
  error(event) {
    refreshing = false;
    if (event.code === 'too_fast' && wanted && next === null) {
      // We are back, and so is everybody else of our address.
      show('too many come at once, trying again in a few seconds');
      retry = setTimeout(join, BACKOFF_MS.most * (0.5 + Math.random() / 2));
      return;
    }
    if ($('room').hidden) return leave(event.text);
    if (event.code === 'nick_taken' && next === null) {
      // We are back, and our name is not free: perhaps we have it ourselves still, on the connection that was lost.
      const [, base, number] = me.match(/^(.*?)(?:-(\d+))?$/s);
      const tail = `-${number ? +number + 1 : 2}`;
      me = [...base].slice(0, NICK_CHARS_MAX - tail.length).join('') + tail;
      return void join();
    }
    $('problem').textContent = event.text;
    giveBack(event.text);
  },
};

function hear(event) {
  if (event.seq && event.type !== 'joined') {
    if (next !== null && event.seq > next && !gapTold) news(event, `${event.seq - next} messages were missed here`, 'gap');
    if (event.seq >= next) {
      next = event.seq + 1;
      gapTold = false;
    }
    const key = [event.seq, event.at, event.nick, event.text].join(' ');
    if (seen.has(key)) return;
    seen.add(key);
  }
  heard[event.type]?.(event);
}

/** The first page of the list of members. */
function list(event) {
  stopRefreshing();
  members.clear();
  event.members.forEach((nick) => members.add(nick));
  count = event.count;
}

/** Asks for the list in a while: not at once, for everybody in the room has the same reason to. */
function askForList() {
  refresh ??= setTimeout(() => {
    refresh = null;
    refreshing = ask({ type: 'who' });
  }, REFRESH_MS.first + REFRESH_MS.more * Math.random());
}

function stopRefreshing() {
  clearTimeout(refresh);
  refresh = null;
}

/** The oldest of what waits has come back. */
function arrived() {
  waiting.shift();
  if (waiting.length === 0) $('problem').textContent = '';
}

/** The server did not take it: it goes back into the field, or, where something else is there, onto the page. */
function giveBack(why) {
  const line = waiting.shift() ?? lastCommand;
  lastCommand = '';
  if (!line) return;
  if (!$('text').value) {
    $('text').value = line;
    return;
  }
  const item = entry({}, 'news gap', '', `not sent (${why}): ${line}`);
  const again = item.lastChild.appendChild(document.createElement('button'));
  again.type = 'button';
  again.textContent = 'Send again';
  again.onclick = () => {
    item.remove();
    speak(line);
  };
}

/** The name that the user has chosen, and not one that the server has made of it. */
function keepName() {
  try { localStorage.setItem('nick', me); } catch { /* as above */ }
}

// --- what is shown

// A name or text that is written from right to left, kept from reordering the words around it (FSI, PDI). The server has
// isolated what is said, and names hold no such controls.
const RTL = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff\u{10800}-\u{10fff}\u{1e800}-\u{1efff}]/u;
const isolated = (text) => RTL.test(text) ? `\u2068${text}\u2069` : text;

function news(event, text, kind = 'news') {
  entry(event, kind === 'news' ? kind : `news ${kind}`, '', text);
}

function entry(event, kind, nick, text) {
  const item = document.createElement('li');
  item.className = kind;
  const time = item.appendChild(document.createElement('time'));
  const at = event.at ? new Date(event.at * 1000) : new Date();
  time.dateTime = at.toISOString();
  time.title = at.toLocaleString();
  time.textContent = at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
  const words = item.appendChild(document.createElement('span'));
  if (nick) {
    const name = words.appendChild(document.createElement('bdi'));
    name.className = 'nick';
    name.textContent = nick;
  }
  const body = words.appendChild(document.createElement('bdi'));
  body.className = 'text';
  body.append(...linked(text));

  if (nick) $('empty').hidden = true;
  const said = $('said');
  const atEnd = said.scrollTop + said.clientHeight >= said.scrollHeight - 40;
  const away = document.hidden || !document.hasFocus() || !atEnd;
  if (away && !/mine|news/.test(kind)) {
    if (unread++ === 0) {
      $('log').querySelector('.unread')?.classList.remove('unread');
      item.classList.add('unread');
    }
  }
  $('log').append(item);
  while ($('log').children.length > SHOWN_MAX) $('log').firstChild.remove();
  if (atEnd || kind === 'mine') said.scrollTop = said.scrollHeight;
  title();
  return item;
}

/** The text, with its addresses as links. What follows a sentence is not part of its address. */
function linked(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(/https?:\/\/[^\s<>"'\u2066-\u2069]+/g)) {
    const url = found[0].replace(/[.,;:!?)\]}'*]+$/, '');
    if (!URL.canParse(url)) continue;
    const link = document.createElement('a');
    link.href = url;
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
    link.textContent = url;
    parts.push(text.slice(at, found.index), link);
    at = found.index + url.length;
  }
  return [...parts, text.slice(at)];
}

function title() {
  document.title = (unread ? `(${unread}) ` : '') + (room || 'Chat');
  $('newer').hidden = unread === 0 || document.hidden;
  $('newer').textContent = unread === 1 ? '1 new message' : `${unread} new messages`;
}

function caughtUp() {
  unread = 0;
  title();
}

$('said').addEventListener('scroll', () => {
  const said = $('said');
  if (!document.hidden && said.scrollTop + said.clientHeight >= said.scrollHeight - 40) caughtUp();
});
$('newer').addEventListener('click', () => {
  $('said').scrollTop = $('said').scrollHeight;
  caughtUp();
  $('text').focus();
});
addEventListener('focus', () => {
  const said = $('said');
  if (said.scrollTop + said.clientHeight >= said.scrollHeight - 40) caughtUp();
});

function people() {
  $('count').textContent = count;
  $('empty').hidden = count > 1 || $('log').querySelector('.text') !== null;
  const list = [...members].sort((one, other) => one.localeCompare(other)).map((nick) => {
    const item = document.createElement('li');
    if (nick === me) {
      item.className = 'me';
      item.textContent = `${isolated(nick)} (you)`;
    } else {
      const button = item.appendChild(document.createElement('button'));
      button.type = 'button';
      button.textContent = nick;
      button.title = `Write to ${nick} alone`;
      button.onclick = () => {
        $('text').value = `/msg ${nick} `;
        $('text').focus();
      };
    }
    return item;
  });
  $('members').replaceChildren(...list);
}

// --- what we say

/** A line as the terminal's users write it, as JSON. */
function parse(line) {
  if (!line.startsWith('/') || line.startsWith('//')) return { type: 'say', text: line.replace(/^\/\//, '/') };
  const [, command, rest] = line.match(/^\/(\S*)\s*(.*)$/s);
  const [, to, text] = rest.match(/^(\S*)\s*(.*)$/s);
  switch (command) {
    case 'nick': return { type: 'nick', nick: rest };
    case 'join': return { type: 'join', room: rest };
    case 'msg': return { type: 'tell', to, text };
    case 'topic': return rest ? { type: 'topic', text: rest } : { type: 'topic' };
    case 'who': return rest ? { type: 'who', after: rest } : { type: 'who' };
    case 'rooms': return { type: 'rooms', after: Number.parseInt(rest, 10) || 0 };
    case 'leave': return { type: 'leave' };
    default: return null;
  }
}

let lastCommand = ''; // goes back into the field if it is refused
const bytes = (text) => new TextEncoder().encode(text).length;

/** Why it would be refused, if it would. */
function tooLong(what) {
  const over = bytes(what?.text ?? '') - TEXT_BYTES_MAX;
  return over > 0 ? `This is too long by ${over} of at most ${TEXT_BYTES_MAX} bytes: shorten it, or send it in parts.` : '';
}

/** Sends what was said; without a connection it waits. */
function speak(line) {
  const what = parse(line);
  const isText = what.type === 'say' || what.type === 'tell';
  if (isText) waiting.push(line);
  else lastCommand = line;
  if (ask(what)) return true;
  if (!isText) return false;
  $('problem').textContent = waiting.length === 1
    ? '1 message waits for the connection, and is sent then.'
    : `${waiting.length} messages wait for the connection, and are sent then.`;
  return true;
}

$('text').addEventListener('input', () => {
  $('problem').textContent = tooLong(parse($('text').value.trim()));
});

// A field of one line drops line ends without a word.
$('text').addEventListener('paste', (event) => {
  const pasted = event.clipboardData?.getData('text') ?? '';
  if (!/[\r\n]/.test(pasted.trim())) return;
  event.preventDefault();
  const field = $('text');
  field.setRangeText(pasted.trim().replace(/\s*[\r\n]+\s*/g, ' '), field.selectionStart, field.selectionEnd, 'end');
  field.dispatchEvent(new Event('input'));
  $('problem').textContent ||= 'Line ends have become spaces: a message is one line.';
});

$('topic').addEventListener('click', () => $('topic').classList.toggle('whole'));

$('speak').addEventListener('submit', (event) => {
  event.preventDefault();
  const line = $('text').value.trim();
  if (!line) return;
  $('problem').textContent = '';
  const what = parse(line);
  if (line === '/help') {
    $('text').value = '';
    news({}, '/nick NAME, /join ROOM, /leave, /who, /rooms, /msg NAME TEXT, /topic TEXT; //TEXT says a text that begins with /');
  } else if (!what) {
    $('problem').textContent = 'There is no such command: /help lists them.';
  } else if (tooLong(what)) {
    $('problem').textContent = tooLong(what);
  } else if (speak(line)) {
    $('text').value = '';
    caughtUp();
  } else {
    $('problem').textContent = 'There is no connection, so this was not sent. It stays here until there is one.';
  }
});

$('enter').addEventListener('submit', (event) => {
  event.preventDefault();
  me = $('name').value.trim();
  room = $('where').value.trim();
  keepName();
  if (!join()) connect();
});

function leave(why) {
  wanted = false;
  next = null;
  stopRefreshing();
  $('room').hidden = true;
  $('door').hidden = false;
  $('refusal').textContent = why;
  $('log').replaceChildren();
  seen.clear();
  waiting = [];
  returning = false;
  $('name').focus();
  $('name').select();
}

$('people').open = matchMedia('(min-width: 40.01rem)').matches;
try { $('name').value = localStorage.getItem('nick') ?? ''; } catch { /* as above */ }
try { $('where').value = decodeURIComponent(location.hash.slice(1)) || 'lobby'; } catch { $('where').value = 'lobby'; }
$('name').focus();
