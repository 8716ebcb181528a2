// The machine that Fieldpost runs on, for people: load, memory, temperature, disk. Looked up in the background when
// somebody asks, so that nothing waits for it and an unwatched gateway spends nothing on it.

import { readlinkSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import type { HostView } from '../core/admin.ts';
import type { Clock } from '../core/clock.ts';

export interface HostMonitor {
  /** What was found last; starts a new look when that is older than 10 s. Empty at first. */
  view(): HostView;
}

/** Inode of the first namespace of processes (include/linux/proc_ns.h, PROC_PID_INIT_INO). */
const FIRST_PID_NAMESPACE = 'pid:[4026531836]';

/** Whether there may be processes on this machine that this one does not see. */
export function isInContainer(): boolean {
  try {
    return readlinkSync('/proc/self/ns/pid') !== FIRST_PID_NAMESPACE;
  } catch {
    return true;
  }
}

const AGE_MS = 10_000;
/** Reading the temperature starts a shell. */
const TEMPERATURE_AGE_MS = 60_000;

/** @param dataDirectory whose file system counts as the disk. */
export function createHostMonitor(clock: Clock, dataDirectory: string): HostMonitor {
  let view: HostView = {};
  let looking = false;
  let lookedAtMs = Number.NEGATIVE_INFINITY;
  let temperature: number | undefined;
  let temperatureAtMs = Number.NEGATIVE_INFINITY;

  async function look(): Promise<void> {
    const { currentLoad, cpuTemperature, mem } = await import('systeminformation');
    if (clock.monotonicMs() - temperatureAtMs >= TEMPERATURE_AGE_MS) {
      temperatureAtMs = clock.monotonicMs();
      // Typed as a number, but null where there is no sensor.
      temperature = (await cpuTemperature()).main ?? undefined;
    }
    const [load, memory, disk] = await Promise.all([currentLoad(), mem(), diskSpace(dataDirectory)]);
    view = {
      cpuPercent: Math.round(load.currentLoad * 10) / 10,
      memoryTotalBytes: memory.total,
      memoryAvailableBytes: memory.available,
      ...(temperature === undefined ? {} : { temperatureCelsius: temperature }),
      ...disk,
    };
  }

  return {
    view() {
      if (!looking && clock.monotonicMs() - lookedAtMs >= AGE_MS) {
        looking = true;
        lookedAtMs = clock.monotonicMs();
        // What cannot be read stays absent: it is for people only.
        look()
          .catch(() => {})
          .finally(() => {
            looking = false;
          });
      }
      return view;
    },
  };
}

async function diskSpace(path: string): Promise<Pick<HostView, 'diskTotalBytes' | 'diskFreeBytes'>> {
  const { bsize, blocks, bavail } = await statfs(path);
  return { diskTotalBytes: bsize * blocks, diskFreeBytes: bsize * bavail };
}
