// The books of the crash and power tests: what was acknowledged against what came out, over all lives of the process.
//
// - Every acknowledged message is accepted or quarantined in each queue that takes it, by the end of a drain; or the quota
//   took it, and then a message in that same queue says so, with a range that holds its `seq`.
// - A range told as lost is final: nothing in it comes out for the first time afterwards. (That it is no wider than the
//   losses, the model checks: test/model/outbox.model.test.ts.)
// - `seq` has no other gap for a device, and one number only ever has one `seq`.
// - Nothing comes out that never went in, and every body is right to the last byte.
// - What was accepted comes again only if that was less than the window plus one second before the kill.
// - A stream keeps what was acknowledged: see stream-book.ts.
// - A strict queue gives a device's messages in order.

import { StreamBook } from './stream-book.ts';
import { GATEWAY_ID, QUEUES, type LoadReport } from './load-protocol.ts';

/** A checkpoint rides alone once a second; the rest is what a loaded machine of two cores may add. */
const AGAIN_MS = 1000 + 1500;

interface QueueBook {
  readonly takes: 'all' | 'routed';
  readonly strict: boolean;
  /** `epoch/device/seq` to the message's number, for what came out since the last drain. */
  readonly out: Map<string, string>;
  /** The same keys to when and in which life it was accepted. */
  readonly done: Map<string, { readonly atMs: number; readonly life: number }>;
  /** `device/number` that were accepted or stand in the quarantine. */
  readonly settled: Set<string>;
  readonly rejected: Set<string>;
  /** Last first-delivered `seq`, by `epoch/device`. */
  readonly newest: Map<string, number>;
  /** Ranges of `seq` that this queue was told to be gone, by `epoch/device`. */
  readonly told: Map<string, (readonly [from: number, to: number])[]>;
  /** Last accepted `seq` of this life, by `epoch/device`. */
  readonly acceptedInLife: Map<string, number>;
}

export interface LedgerTotals {
  acknowledged: number;
  delivered: number;
  again: number;
  quarantined: number;
  /** Acknowledged, and taken by the quota with a message that says so; counted for each queue. */
  evicted: number;
  lost: number;
  salvages: number;
}

export class Ledger {
  readonly totals: LedgerTotals = {
    acknowledged: 0,
    delivered: 0,
    again: 0,
    quarantined: 0,
    evicted: 0,
    lost: 0,
    salvages: 0,
  };
  readonly #faults: string[] = [];
  #faultsTotal = 0;
  /** First number that no life has used for any device. */
  #nextNumber = 0;
  readonly #acknowledged = new Map<string, number>();
  readonly #killedAtMs: number[] = [];
  readonly #epochs = new Set<string>();
  readonly #queues = new Map<string, QueueBook>();
  #life = 0;
  #quarantine = new Set<string>();
  readonly #stream = new StreamBook((text) => this.#fault(text));

  constructor() {
    for (const { name, takes, order } of QUEUES) {
      this.#queues.set(name, {
        takes,
        strict: order === 'strict',
        out: new Map(),
        done: new Map(),
        settled: new Set(),
        rejected: new Set(),
        newest: new Map(),
        told: new Map(),
        acceptedInLife: new Map(),
      });
    }
  }

  get nextNumber(): number {
    return this.#nextNumber;
  }

  /** The first faults in words, and how many there are. */
  get faults(): readonly string[] {
    const more = this.#faultsTotal - this.#faults.length;
    return more > 0 ? [...this.#faults, `and ${more} more`] : this.#faults;
  }

  #fault(text: string): void {
    this.#faultsTotal += 1;
    if (this.#faults.length < 30) this.#faults.push(`life ${this.#life}: ${text}`);
  }

  /** Takes one report of the child. */
  read(report: LoadReport): void {
    switch (report[0]) {
      case 'opened':
        this.#epochs.add(report[1].epoch);
        break;
      case 'in':
        this.#nextNumber = Math.max(this.#nextNumber, report[2] + 1);
        break;
      case 'ack':
        this.totals.acknowledged += 1;
        this.#acknowledged.set(`${report[1]}/${report[2]}`, report[4]);
        this.#stream.acknowledge(report[1], report[4]);
        break;
      case 'refused':
        this.#fault(`append of ${report[1]} ${report[2]} was refused: ${report[3]}`);
        break;
      case 'out':
        this.#readOut(report);
        break;
      case 'done':
        this.#readDone(report);
        break;
      case 'rejected': {
        const [, queue, device, seq] = report;
        this.#book(queue).rejected.add(`${device}/${seq}`);
        break;
      }
      case 'quarantine':
        this.#readQuarantine(report[1], report[2], report[3]);
        break;
      case 'event':
        if (report[1]['kind'] === 'salvaged') this.totals.salvages += 1;
        else if (report[1]['kind'] !== 'quarantined' && report[1]['kind'] !== 'retention_shortened')
          this.#fault(`event ${JSON.stringify(report[1])}`);
        break;
      case 'kept':
        this.#stream.read(report);
        break;
      case 'drained':
      case 'closed':
        break;
    }
  }

  #book(queue: string): QueueBook {
    const book = this.#queues.get(queue);
    if (book === undefined) throw new Error(`No queue ${queue}.`);
    return book;
  }

  #readOut([, queue, device, seq, epoch, body]: Extract<LoadReport, { 0: 'out' }>): void {
    const book = this.#book(queue);
    this.totals.delivered += 1;
    const key = `${epoch}/${device}/${seq}`;
    const number = this.#identify(queue, device, seq, epoch, body);
    const done = book.done.get(key);
    if (done !== undefined) {
      this.totals.again += 1;
      const killedAtMs = this.#killedAtMs[done.life];
      if (killedAtMs === undefined) this.#fault(`${queue}: ${key} came again in the life in which it was accepted`);
      else if (killedAtMs - done.atMs > AGAIN_MS) {
        this.#fault(`${queue}: ${key} came again, though accepted ${killedAtMs - done.atMs} ms before the kill`);
      }
    }
    const before = book.out.get(key);
    if (before !== undefined && before !== number) this.#fault(`${queue}: ${key} was ${before} and is now ${number}`);
    if (before === undefined) this.#readFirst(book, queue, device, seq, epoch);
    book.out.set(key, number);
  }

  /** Checks where the message comes from; returns `device/number`. */
  #identify(queue: string, device: string, seq: number, epoch: string, body: string): string {
    if (!this.#epochs.has(epoch)) {
      this.#fault(`${queue}: ${device} ${seq} has epoch ${epoch}, which no life announced`);
    }
    if (device === GATEWAY_ID) {
      this.#readGatewayMessage(this.#book(queue), queue, body);
      return `${device}/${seq}`;
    }
    const [verdict, from, text] = body.split(' ');
    const number = Number(text);
    if (verdict !== 'ok' || from !== device) this.#fault(`${queue}: ${device} ${seq} has a wrong body: ${body}`);
    else if (number >= this.#nextNumber) this.#fault(`${queue}: ${device} ${number} never went in`);
    else if (this.#book(queue).takes === 'routed' && number % 5 !== 0) {
      this.#fault(`${queue}: ${device} ${number} was not routed there`);
    }
    const seqAcknowledged = this.#acknowledged.get(`${device}/${number}`);
    if (seqAcknowledged !== undefined && seqAcknowledged !== seq && this.#epochs.size === 1) {
      this.#fault(`${queue}: ${device} ${number} was acknowledged as seq ${seqAcknowledged} and came as ${seq}`);
    }
    return `${device}/${number}`;
  }

  #readGatewayMessage(book: QueueBook, queue: string, body: string): void {
    const event = JSON.parse(body) as { event: string; device: string; epoch: string; from?: number; to?: number };
    if (event.event === 'quarantined') return;
    if (
      event.event !== 'dropped' ||
      event.from === undefined ||
      event.to === undefined ||
      !body.includes('max_bytes')
    ) {
      this.#fault(`${queue}: the gateway says ${body}`);
      return;
    }
    const source = `${event.epoch}/${event.device}`;
    const ranges = book.told.get(source) ?? [];
    ranges.push([event.from, event.to]);
    book.told.set(source, ranges);
  }

  #isTold(book: QueueBook, source: string, seq: number): boolean {
    return book.told.get(source)?.some(([from, to]) => from <= seq && seq <= to) === true;
  }

  #isToldInAnyEpoch(book: QueueBook, device: string, seq: number): boolean {
    return [...this.#epochs].some((epoch) => this.#isTold(book, `${epoch}/${device}`, seq));
  }

  #readFirst(book: QueueBook, queue: string, device: string, seq: number, epoch: string): void {
    const source = `${epoch}/${device}`;
    const newest = book.newest.get(source) ?? 0;
    if (this.#isTold(book, source, seq)) {
      this.#fault(`${queue}: ${source} gave seq ${seq} for the first time after it had told its loss`);
    }
    if (seq > newest) {
      book.newest.set(source, seq);
    } else if (book.strict && seq > (this.#drainedTo.get(`${queue}/${source}`) ?? 0)) {
      this.#fault(`${queue}: ${source} gave seq ${seq} for the first time after ${newest}`);
    }
  }

  /** Newest `seq` at the last drain: up to there the books are closed. */
  readonly #drainedTo = new Map<string, number>();

  #readDone([, queue, device, seq, atMs]: Extract<LoadReport, { 0: 'done' }>): void {
    const book = this.#book(queue);
    // The report has no epoch: it is that of the delivery just before.
    for (const epoch of this.#epochs) {
      const key = `${epoch}/${device}/${seq}`;
      const number = book.out.get(key);
      if (number === undefined) continue;
      book.done.set(key, { atMs, life: this.#life });
      book.settled.add(number);
      const source = `${epoch}/${device}`;
      const last = book.acceptedInLife.get(source) ?? 0;
      if (book.strict && seq <= last) this.#fault(`${queue}: ${source} was accepted as ${last} and then ${seq}`);
      book.acceptedInLife.set(source, seq);
    }
  }

  #readQuarantine(queue: string, device: string, seq: number): void {
    this.#quarantine.add(`${queue}/${device}/${seq}`);
    const book = this.#book(queue);
    for (const epoch of this.#epochs) {
      const number = book.out.get(`${epoch}/${device}/${seq}`);
      if (number !== undefined) book.settled.add(number);
    }
  }

  /** The process of this life has ended, at this time of the wall clock. */
  endLife(killedAtMs: number): void {
    this.#killedAtMs[this.#life] = killedAtMs;
    this.#life += 1;
    this.#stream.endLife();
    for (const book of this.#queues.values()) book.acceptedInLife.clear();
  }

  /** After a drain to the end: nothing may be missing. Closes the books up to here. */
  endDrain(): void {
    for (const [name, book] of this.#queues) {
      for (const [message, seq] of this.#acknowledged) {
        if (book.takes === 'routed' && Number(message.split('/')[1]) % 5 !== 0) continue;
        if (book.settled.has(message)) continue;
        const device = message.split('/')[0] ?? '';
        if (this.#isToldInAnyEpoch(book, device, seq)) {
          this.totals.evicted += 1;
          continue;
        }
        this.totals.lost += 1;
        this.#fault(`${name}: ${message} was acknowledged and never came out`);
      }
      for (const rejected of book.rejected) {
        if (this.#quarantine.has(`${name}/${rejected}`)) continue;
        // The quota may take a message while it is with its endpoint: then there is nothing left to quarantine.
        const [device = '', seq] = rejected.split('/');
        if (this.#isToldInAnyEpoch(book, device, Number(seq))) continue;
        this.#fault(`${name}: ${rejected} is not in the quarantine`);
      }
      if (book.takes === 'all') this.#checkGaps(name, book);
      for (const [source, seq] of book.newest) this.#drainedTo.set(`${name}/${source}`, seq);
      book.settled.clear();
      book.told.clear();
      book.rejected.clear();
      this.#forgetOld(book);
    }
    this.#stream.endDrain(this.#epochs.size);
    this.totals.quarantined = this.#quarantine.size;
    this.#quarantine = new Set();
    this.#acknowledged.clear();
  }

  #checkGaps(name: string, book: QueueBook): void {
    for (const [source, newest] of book.newest) {
      const from = this.#drainedTo.get(`${name}/${source}`) ?? 0;
      let missing = 0;
      for (let seq = from + 1; seq <= newest; seq += 1) {
        if (!book.out.has(`${source}/${seq}`) && !this.#isTold(book, source, seq)) missing += 1;
      }
      if (missing > 0) this.#fault(`${name}: ${source} lacks ${missing} of seq ${from + 1} to ${newest}`);
    }
  }

  /** What was accepted long ago can still come again by a fault; its number is not needed for that. */
  #forgetOld(book: QueueBook): void {
    const kept = 50_000;
    for (const map of [book.out, book.done]) {
      for (const key of map.keys()) {
        if (map.size <= kept) break;
        map.delete(key);
      }
    }
  }
}
