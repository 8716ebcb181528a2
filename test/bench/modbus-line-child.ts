// A Modbus RTU server on a line of a given speed: `node modbus-line-child.ts PATH BAUD_RATE`. A pseudo-terminal carries bytes
// at once, so the server keeps the time of the line itself: a request counts as received when its last character would
// have passed, and an answer is handed over when its own last character would have.

import { SerialPort } from 'serialport';
import { onCommand, report } from '../support/child.ts';
import { encodeFrame, takeFrames } from '../sim/modbus-framing.ts';
import { SimDevice } from '../sim/modbus-device.ts';

/** Start, eight data bits and two stop bits: pseudo-terminals take no parity (MODBUS over Serial Line V1.02, 2.5.1). */
const CHARACTER_BITS = 11;
/** Silence before and after each frame (2.5.1.1). */
const GAP_CHARACTERS = 3.5;
/** Timers of the runtime are this coarse; the rest is waited for without them. */
const TIMER_MS = 2;
const UNITS = 8;

const [path = '', baudRateText = '19200'] = process.argv.slice(2);
const characterMs = (CHARACTER_BITS * 1000) / Number(baudRateText);

let transactions = 0;
let busyMs = 0;
let hastyRequests = 0;
let lineFreeMs = 0;
let sinceMs = performance.now();

const devices = new Map(Array.from({ length: UNITS }, (_, index) => [index + 1, new SimDevice({ size: 1024 })]));
const port = new SerialPort({ path, baudRate: 115_200, autoOpen: false });
await new Promise<void>((resolve, reject) => port.open((error) => (error === null ? resolve() : reject(error))));

let received: Buffer = Buffer.alloc(0);
port.on('data', (bytes: Buffer) => {
  const startedMs = performance.now();
  const { frames, rest } = takeFrames('rtu', Buffer.concat([received, bytes]));
  received = rest;
  for (const frame of frames) {
    const pdu = devices.get(frame.unitId)?.answer(frame.pdu);
    if (pdu === undefined) continue;
    const answer = encodeFrame('rtu', { ...frame, pdu }, { badCheck: false });
    const characters = frame.bytes + GAP_CHARACTERS + answer.length;
    if (startedMs < lineFreeMs) hastyRequests += 1;
    const doneMs = startedMs + characters * characterMs;
    lineFreeMs = doneMs + GAP_CHARACTERS * characterMs;
    transactions += 1;
    busyMs += (characters + GAP_CHARACTERS) * characterMs;
    at(doneMs, () => port.write(answer));
  }
});

/** Calls back at that moment and no sooner, to a small part of a millisecond. */
function at(timeMs: number, callback: () => void): void {
  const leftMs = timeMs - performance.now();
  if (leftMs <= 0) callback();
  else if (leftMs > TIMER_MS) setTimeout(() => at(timeMs, callback), leftMs - TIMER_MS);
  else setImmediate(() => at(timeMs, callback));
}

onCommand(() => {
  const elapsedMs = performance.now() - sinceMs;
  report({ transactions, usedShare: busyMs / elapsedMs, hastyRequests, elapsedMs });
  transactions = busyMs = hastyRequests = 0;
  sinceMs = performance.now();
});
process.stdin.on('end', () => process.exit(0));
report({ listening: 1 });
