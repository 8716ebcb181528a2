// Writes what is desired of one leaf device, and says how each property ended.

import { createHash } from 'node:crypto';
import type { CommandAnswer } from '../core/command.ts';
import type { RegisteredDevice } from '../devices/device-registry.ts';
import type { Dispatcher } from '../devices/dispatcher.ts';
import { refusedNames, writesOf, type Outcome } from '../iothub/desired-answers.ts';
import type { JsonObject } from '../iothub/twin-record.ts';

export interface DesiredWriteOptions {
  readonly dispatcher: Pick<Dispatcher, 'run'>;
  /** For log and audit. */
  readonly actor: string;
  readonly device: RegisteredDevice;
  /** All that is desired of it. */
  readonly desired: JsonObject;
  /** What of it is due, and since which round: one of a round is written once, over restarts too. */
  readonly rounds: Readonly<Record<string, number>>;
  /** The round in which a point is due by now. */
  readonly roundOf: (name: string) => number | undefined;
}

export interface DesiredWritten {
  readonly outcomes: Readonly<Record<string, Outcome>>;
  /** Nothing was done, and it can be later. */
  readonly notTaken: readonly string[];
}

/** Never rejects. */
export async function writeDesired(options: DesiredWriteOptions): Promise<DesiredWritten> {
  const { dispatcher, actor, device, desired, rounds, roundOf } = options;
  const { deviceId, info } = device;
  const patch = Object.fromEntries(Object.entries(desired).filter(([name]) => Object.hasOwn(rounds, name)));
  const { values, refused } = writesOf(patch, info.points);
  const outcomes: Record<string, Outcome> = { ...refused, ...refusedNames(patch, desired, info.points) };
  const notTaken: string[] = [];
  for (const [name, value] of Object.entries(values)) {
    const round = rounds[name];
    // Desired anew meanwhile: the value before it is of no use.
    if (round === undefined || roundOf(name) !== round) continue;
    const command = { kind: 'write', deviceId, values: { [name]: value } } as const;
    const answer = await dispatcher.run(command, { actor, id: commandId(name, round) });
    if (!isNotDone(answer)) outcomes[name] = answer;
    else if (roundOf(name) === round) notTaken.push(name);
  }
  return { outcomes, notTaken };
}

/** A name may be longer than the id of a command. */
function commandId(name: string, round: number): string {
  return `desired.${round}.${createHash('sha256').update(name).digest('base64url').slice(0, 22)}`;
}

function isNotDone({ status, code }: CommandAnswer): boolean {
  return status === 408 || status === 429 || status === 503 || code === 'GW_DEVICE_OFFLINE';
}
