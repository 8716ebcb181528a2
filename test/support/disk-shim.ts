// A disk that forgets and fails, for one directory of one child process: see disk-shim.c.

import { closeSync, mkdirSync, openSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { run } from './command.ts';

const SOURCE = join(import.meta.dirname, 'disk-shim.c');

/** 32-bit numbers of the page that is shared with the process; the order is that of the struct in disk-shim.c. */
const CONTROL = [
  'syncDelayMs',
  'failSyncs',
  'failWrites',
  'failErrno',
  'ignoreFileSyncs',
  'ignoreDirectorySyncs',
  'fileSyncs',
  'directorySyncs',
  'failures',
] as const;
type ControlName = (typeof CONTROL)[number];

export interface DiskShim {
  /** For the child. */
  readonly env: Readonly<Record<string, string>>;
  /** Where the journal stands. */
  readonly image: string;
  /** Every sync takes this much longer. */
  delaySyncs(ms: number): void;
  /** The next `count` syncs of files fail; -1: all, 0: none. */
  failSyncs(count: number, code?: 'EIO' | 'ENOSPC'): void;
  /** The next `count` writes fail; -1: all, 0: none. */
  failWrites(count: number, code?: 'EIO' | 'ENOSPC'): void;
  /** A disk that answers a sync and does nothing. */
  ignoreSyncs(what: { readonly files?: boolean; readonly directories?: boolean }): void;
  /** Counts since the start. */
  read(name: 'fileSyncs' | 'directorySyncs' | 'failures'): number;
}

/** Compiles the shim into `directory`; resolves with its path. Needs gcc. */
export async function compileDiskShim(directory: string): Promise<string> {
  const library = join(directory, 'disk-shim.so');
  await run('gcc', ['-shared', '-fPIC', '-O2', '-Wall', '-Werror', '-o', library, SOURCE, '-ldl', '-lpthread']);
  return library;
}

export interface DiskShimOptions {
  readonly library: string;
  /** The directory whose disk it is. */
  readonly root: string;
  /** Of its own, on the same file system; emptied. */
  readonly work: string;
  /** Journal for a power cut: syncs are recorded and not done. Without it they are done. */
  readonly journal: boolean;
}

/** Prepares one life of a process. */
export function createDiskShim(options: DiskShimOptions): DiskShim {
  const { library, root, work, journal } = options;
  rmSync(work, { recursive: true, force: true });
  for (const name of ['graves', 'copies']) mkdirSync(join(work, name), { recursive: true });
  const controlPath = join(work, 'control');
  writeFileSync(controlPath, Buffer.alloc(CONTROL.length * 4));

  // A process killed before the library was loaded has changed nothing.
  writeFileSync(join(work, 'journal'), '');

  const access = <T>(use: (descriptor: number) => T): T => {
    const descriptor = openSync(controlPath, 'r+');
    try {
      return use(descriptor);
    } finally {
      closeSync(descriptor);
    }
  };
  const set = (name: ControlName, value: number): void => {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value);
    access((descriptor) => writeSync(descriptor, bytes, 0, 4, CONTROL.indexOf(name) * 4));
  };
  return {
    image: work,
    env: {
      LD_PRELOAD: library,
      FIELDPOST_DISK_ROOT: root,
      FIELDPOST_DISK_CONTROL: controlPath,
      // io_uring would pass by the library.
      UV_USE_IO_URING: '0',
      ...(journal ? { FIELDPOST_DISK_IMAGE: work } : {}),
    },
    delaySyncs: (ms) => set('syncDelayMs', ms),
    failSyncs(count, code = 'EIO') {
      set('failErrno', constants.errno[code]);
      set('failSyncs', count);
    },
    failWrites(count, code = 'EIO') {
      set('failErrno', constants.errno[code]);
      set('failWrites', count);
    },
    ignoreSyncs({ files = false, directories = false }) {
      set('ignoreFileSyncs', files ? 1 : 0);
      set('ignoreDirectorySyncs', directories ? 1 : 0);
    },
    read(name) {
      const bytes = Buffer.alloc(4);
      access((descriptor) => readSync(descriptor, bytes, 0, 4, CONTROL.indexOf(name) * 4));
      return bytes.readInt32LE();
    },
  };
}
