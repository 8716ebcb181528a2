// Cloud-to-device messages to devices of adapters. The gateway is the application on such a device: it carries a message out as a
// command, one after the other, while the device is good, and settles it by what the device says. Until then it waits, as for any
// device that is away.
//
// Invariants
// - A message that was begun is never begun again: its id is in the ledger of the dispatcher, over restarts.

import type { Clock } from '../core/clock.ts';
import type { CommandAnswer, CommandStatus } from '../core/command.ts';
import type { DeviceId } from '../core/device.ts';
import { errorText } from '../core/errors.ts';
import type { Commands } from '../core/hub/messaging.ts';
import type { CommandOutcome, DeliveredCommand } from '../core/hub/session.ts';
import { PROPERTY_FIELDPOST_COMMAND } from '../core/message.ts';
import type { Dispatcher } from '../devices/dispatcher.ts';
import type { Telemetry } from '../observe/events.ts';
import { fieldCommand, WRITE } from '../iothub/field-command.ts';

export interface FieldInboxOptions {
  readonly hubId: string;
  /** Whether commands are delivered to a device. */
  readonly isOnline: (deviceId: DeviceId) => boolean;
  readonly dispatcher: Pick<Dispatcher, 'run'>;
  readonly commands: () => Pick<Commands, 'receive' | 'settle'>;
  readonly clock: Clock;
  readonly telemetry: Telemetry;
  /** A device confirmed what it holds now. */
  readonly onWritten: (deviceId: DeviceId, answer: CommandAnswer) => void;
}

export interface FieldInbox {
  /** Carries out what waits for a device, as long as the device is good and the signal is not aborted. */
  empty(deviceId: DeviceId, signal: AbortSignal): Promise<void>;
}

/** Of the lock of 60 s, what a command may take. */
const TIMEOUT_MS = 30_000;

export function createFieldInbox(options: FieldInboxOptions): FieldInbox {
  const { hubId, isOnline, dispatcher, commands, clock, telemetry, onWritten } = options;

  /** Undefined: it comes again once its lock is over. */
  async function carryOut(deviceId: DeviceId, delivered: DeliveredCommand): Promise<CommandOutcome | undefined> {
    const { sequenceNumber, deliveryCount, enqueuedTimeMs, expiresAtMs, message } = delivered;
    // Of the attempt: one that had not begun is made again.
    const id = `c2d.${enqueuedTimeMs}.${sequenceNumber}.${deliveryCount}`;
    let field;
    try {
      field = fieldCommand(deviceId, message.properties[PROPERTY_FIELDPOST_COMMAND] ?? WRITE, message.body);
    } catch (error) {
      telemetry.emit('command_answered', { status: 400, device: deviceId, id, error: errorText(error) });
      return 'reject';
    }
    let begun = false;
    const answer = await dispatcher.run(field.command, {
      actor: 'hub:message',
      id,
      expiresAtMs: field.expiresAtMs,
      timeoutMs: Math.min(TIMEOUT_MS, expiresAtMs - clock.wallMs()),
      onBegun: () => (begun = true),
    });
    if (answer.values !== undefined) onWritten(deviceId, answer);
    return outcomeOf(answer.status, begun);
  }

  return {
    async empty(deviceId, signal) {
      for (;;) {
        if (signal.aborted || !isOnline(deviceId)) return;
        const command = await commands().receive(hubId, deviceId);
        if (command === undefined) return;
        const outcome = await carryOut(deviceId, command);
        if (outcome === undefined) return;
        await commands().settle(hubId, deviceId, command.lockToken, outcome);
      }
    },
  };
}

function outcomeOf(status: CommandStatus, begun: boolean): CommandOutcome | undefined {
  if (status === 200) return 'complete';
  // Not taken.
  if (status === 429 || status === 503) return undefined;
  // The device went away, or was busy, before its turn came.
  return !begun && (status === 408 || status === 504) ? 'abandon' : 'reject';
}
