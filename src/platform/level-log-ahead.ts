// Zeros ahead of LevelDB's log. A sync of a file that has grown costs a transaction of the file system's journal, about
// 25 KB on ext4 whatever was written; a sync of bytes that the file had already costs those bytes. So while commits are
// small, the log is made longer from time to time and LevelDB writes over the zeros.
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

import { closeSync, constants, openSync, write } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { LevelWrite } from './level.ts';

const writeDescriptor = promisify(write);

/** Of larger commits, the zeros would cost more than the transactions that they save. */
const SMALL_COMMIT_BYTES = 24 * 1024;
const ZEROS = Buffer.alloc(256 * 1024);
/** LevelDB's framing (log_format.h): blocks of 32 KB, seven bytes before each piece of a record. */
const BLOCK_BYTES = 32 * 1024;
const PIECE_HEADER_BYTES = 7;
/** Of a batch: sequence and count; of each entry: its kind and two lengths (write_batch.cc). */
const BATCH_HEADER_BYTES = 12;
const ENTRY_HEADER_BYTES = 8;

/** Bytes that a batch takes in the log, rounded up. */
function logBytes(writes: readonly LevelWrite[]): number {
  let bytes = BATCH_HEADER_BYTES;
  for (const { key, value } of writes) bytes += ENTRY_HEADER_BYTES + key.length + (value?.length ?? 0);
  return bytes + PIECE_HEADER_BYTES * (2 + Math.ceil(bytes / BLOCK_BYTES));
}

/** Keeps zeros ahead in the newest log of one database. An economy, not a duty: what goes wrong here is kept silent. */
export class LogAhead {
  readonly #directory: string;
  /** The log that `#descriptor` is, or was before it was given up. */
  #name: string | undefined;
  #descriptor: number | undefined;
  /** Whether `#name` may have ceased to be the newest log. */
  #stale = true;
  /** Zeros that LevelDB has not yet written over, rounded down. */
  #leftBytes = 0;
  /** One thing at a time. */
  #busy: Promise<void> = Promise.resolve();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** The directory has changed: LevelDB may have begun another log. */
  lookAgain(): void {
    this.#stale = true;
  }

  /** The log took records that `prepare` was not told of. */
  forget(): void {
    this.#leftBytes = 0;
  }

  /** To be called before a batch is written and synced. Never rejects. */
  prepare(writes: readonly LevelWrite[]): Promise<void> {
    this.#busy = this.#busy.then(() => this.#prepare(logBytes(writes)));
    return this.#busy;
  }

  async #prepare(bytes: number): Promise<void> {
    const small = bytes <= SMALL_COMMIT_BYTES;
    try {
      if (this.#stale && small) await this.#useNewest();
      this.#leftBytes -= bytes;
      if (this.#leftBytes >= 0 || !small || this.#descriptor === undefined) return;
      const { bytesWritten } = await writeDescriptor(this.#descriptor, ZEROS);
      this.#leftBytes = bytesWritten - bytes;
    } catch {
      // Not again for this log: a full disk is full for a while, and of a failing one LevelDB itself will tell.
      this.#release();
    }
  }

  async #useNewest(): Promise<void> {
    this.#stale = false;
    let newest: string | undefined;
    for (const name of await readdir(this.#directory)) {
      if (!/^\d+\.log$/.test(name)) continue;
      if (newest === undefined || Number.parseInt(name, 10) > Number.parseInt(newest, 10)) newest = name;
    }
    if (newest === this.#name) return;
    this.#release();
    this.#name = newest;
    if (newest === undefined) return;
    this.#descriptor = openSync(join(this.#directory, newest), constants.O_WRONLY | constants.O_APPEND);
  }

  #release(): void {
    const descriptor = this.#descriptor;
    this.#descriptor = undefined;
    this.#leftBytes = 0;
    if (descriptor !== undefined) closeSync(descriptor);
  }

  /** Resolves when nothing is being written any more: a descriptor closed under a write might be another file's by then. */
  close(): Promise<void> {
    this.#busy = this.#busy.then(() => {
      this.#release();
      this.#name = undefined;
      this.#stale = false;
    });
    return this.#busy;
  }
}
