// Zeros ahead of LevelDB's log. A sync of a file that has grown costs a transaction of the file system's journal, about
// 25 KB on ext4 whatever was written; a sync of bytes that the file had already costs those bytes. So while commits are
// small, the log is made longer from time to time and LevelDB writes over the zeros. And a commit of any size that nearly
// fills its last page is made to fill it, by a delete of a key that nobody has, so that the next one does not write it again.
//
// Why that is safe
// - LevelDB writes its log at the position of its own descriptor (fopen "w", env_posix.cc), never with O_APPEND, so that
//   zeros at the end of the file do not move its records. The zeros are written with O_APPEND: the kernel puts them behind
//   everything that is in the file at that instant (open(2)), so that they cannot overwrite a record, whatever goes on
//   beside them.
// - LevelDB's reader passes over zeros silently (kZeroType, log_reader.cc), in a repair as well.
// - What a power cut leaves of a record that was not synced is the record, zeros, or a mixture that its checksum refuses;
//   without zeros ahead it is the same.
// - They are synced together with the next commit. One that fails, on a full disk say, is no loss: the log grows as usual.

import { closeSync, constants, fstatSync, openSync, readdirSync, write } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LevelWrite } from './level-handle.ts';

const writeDescriptor = promisify(write);

/** Of larger commits, the zeros would cost more than the transactions that they save. */
const SMALL_COMMIT_BYTES = 24 * 1024;
const ZEROS = Buffer.alloc(256 * 1024);
/** What the kernel writes at least; a commit that ends within one has it written again by the next. */
const PAGE_BYTES = 4096;
/** More padding than this costs more, in zeros and in tables, than the page that is written once less. */
const PAD_MAX_BYTES = 1024;
/** The same for commits that no zeros are written for: padding costs itself in the log and in a table. */
const LARGE_PAD_MAX_BYTES = 1536;

/** LevelDB's framing (log_format.h): blocks of 32 KB, seven bytes before each piece of a record. */
const BLOCK_BYTES = 32 * 1024;
const PIECE_HEADER_BYTES = 7;
/** Of a batch: sequence and count (write_batch.cc). */
const BATCH_HEADER_BYTES = 12;

/** A length and as many bytes; LevelDB's lengths have seven bits a byte. */
function sliceBytes(length: number): number {
  let lengthBytes = 1;
  for (let rest = length; rest > 0x7f; rest >>>= 7) lengthBytes += 1;
  return lengthBytes + length;
}

/** Bytes of a batch's record, without the framing. */
function batchBytes(writes: readonly LevelWrite[]): number {
  let bytes = BATCH_HEADER_BYTES;
  for (const { key, value } of writes) {
    bytes += 1 + sliceBytes(key.length) + (value === undefined ? 0 : sliceBytes(value.length));
  }
  return bytes;
}

/** Where a record ends that begins at `position`. */
function recordEnd(position: number, bytes: number): number {
  let end = position;
  let rest = bytes;
  do {
    let room = BLOCK_BYTES - (end % BLOCK_BYTES);
    if (room < PIECE_HEADER_BYTES) {
      end += room;
      room = BLOCK_BYTES;
    }
    const piece = Math.min(rest, room - PIECE_HEADER_BYTES);
    end += PIECE_HEADER_BYTES + piece;
    rest -= piece;
  } while (rest > 0);
  return end;
}

/** A delete of that many bytes in a batch, of a key that nobody has and that sorts behind `key`; undefined: there is none. */
function padding(bytes: number, key: Buffer): LevelWrite | undefined {
  for (let lengthBytes = 1; lengthBytes <= 2; lengthBytes += 1) {
    const length = bytes - 1 - lengthBytes;
    if (length > key.length && 1 + sliceBytes(length) === bytes) {
      const padded = Buffer.alloc(length);
      key.copy(padded);
      return { key: padded, value: undefined };
    }
  }
  return undefined;
}

/**
 * Keeps zeros ahead in the newest log of one database. An economy, not a duty: what goes wrong here is kept silent, and
 * wrong reckoning of positions (writes that run beside each other are one record) costs bytes and nothing else.
 */
export class LogAhead {
  readonly #directory: string;
  /** The log that `#descriptor` is, or was before it was given up. */
  #name: string | undefined;
  #descriptor: number | undefined;
  /** Whether `#name` may have ceased to be the newest log. */
  #stale = true;
  /** Where the zeros end, or before. */
  #zerosEnd = 0;
  /** Where the next record begins; infinite when the log took records that we do not know. */
  #position = 0;
  /** Of the last batch, which may be the one that began the newest log. */
  #lastBytes = 0;
  /** One thing at a time. */
  #busy: Promise<unknown> = Promise.resolve();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** The directory has changed: LevelDB may have begun another log. */
  lookAgain(): void {
    this.#stale = true;
  }

  /** LevelDB has begun another log, which holds nothing yet. */
  begun(): void {
    this.#stale = true;
    this.#lastBytes = 0;
  }

  /** The log took records that `prepare` was not told of. */
  forget(): void {
    this.#position = Number.POSITIVE_INFINITY;
  }

  /**
   * To be called before a batch is written and synced; resolves with what to write. One that ends shortly before a page
   * does is made to end with it. Never rejects.
   */
  prepare(writes: readonly LevelWrite[]): Promise<readonly LevelWrite[]> {
    const prepared = this.#busy.then(() => this.#prepare(writes));
    this.#busy = prepared;
    return prepared;
  }

  async #prepare(writes: readonly LevelWrite[]): Promise<readonly LevelWrite[]> {
    let bytes = batchBytes(writes);
    let padded = writes;
    try {
      if (this.#stale) this.#useNewest();
      const small = bytes <= SMALL_COMMIT_BYTES && this.#descriptor !== undefined;
      const pad =
        this.#descriptor === undefined
          ? undefined
          : this.#paddingFor(writes, bytes, small ? PAD_MAX_BYTES : LARGE_PAD_MAX_BYTES);
      if (pad !== undefined) {
        padded = [...writes, pad];
        bytes = batchBytes(padded);
      }
      if (small && !(this.#end(bytes) <= this.#zerosEnd)) await this.#addZeros();
      this.#position = this.#end(bytes);
    } catch {
      // Not again for this log: a full disk is full for a while, and of a failing one LevelDB itself will tell.
      this.#release();
    }
    this.#lastBytes = bytes;
    return padded;
  }

  #paddingFor(writes: readonly LevelWrite[], bytes: number, maxBytes: number): LevelWrite | undefined {
    const last = writes.at(-1);
    const missing = PAGE_BYTES - (this.#end(bytes) % PAGE_BYTES);
    return last !== undefined && missing <= maxBytes ? padding(missing, last.key) : undefined;
  }

  #end(bytes: number): number {
    return Number.isFinite(this.#position) ? recordEnd(this.#position, bytes) : Number.POSITIVE_INFINITY;
  }

  async #addZeros(): Promise<void> {
    const descriptor = this.#descriptor as number;
    const { bytesWritten } = await writeDescriptor(descriptor, ZEROS);
    this.#zerosEnd = fstatSync(descriptor).size;
    // Of unknown records only this is known: they end where the zeros begin, or before.
    if (!Number.isFinite(this.#position)) this.#position = this.#zerosEnd - bytesWritten;
  }

  #useNewest(): void {
    this.#stale = false;
    let newest: string | undefined;
    // A few names that the kernel has in memory. Asked for beside the loop, this cost every commit for a while after a table
    // was made three turns of the thread pool.
    for (const name of readdirSync(this.#directory)) {
      if (!/^\d+\.log$/.test(name)) continue;
      if (newest === undefined || Number.parseInt(name, 10) > Number.parseInt(newest, 10)) newest = name;
    }
    if (newest === this.#name) return;
    this.#release();
    this.#name = newest;
    this.#zerosEnd = 0;
    this.#position = this.#lastBytes === 0 ? 0 : recordEnd(0, this.#lastBytes);
    if (newest === undefined) return;
    this.#descriptor = openSync(join(this.#directory, newest), constants.O_WRONLY | constants.O_APPEND);
  }

  #release(): void {
    const descriptor = this.#descriptor;
    this.#descriptor = undefined;
    this.#zerosEnd = 0;
    if (descriptor !== undefined) closeSync(descriptor);
  }

  /** Resolves when nothing is being written any more: a descriptor closed under a write might be another file's by then. */
  async close(): Promise<void> {
    await this.#busy;
    this.#release();
    this.#stale = false;
  }
}
