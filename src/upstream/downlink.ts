// The way down of an upstream transport: commands in, answers out. It keeps nothing: whose answer is lost with the link
// sends the command again, and it is answered from its record.

import { answerOf, type CommandAnswer, type CommandOptions, type DeviceCommand } from '../core/command.ts';
import type { Endpoint, IncomingCommand, UpstreamTransport } from '../core/endpoint.ts';
import { isDeviceId, type DeviceId } from '../core/device.ts';
import { GatewayError } from '../core/errors.ts';
import type { GatewayMethods } from '../core/gateway-methods.ts';
import { LIMITS } from '../core/limits.ts';
import type { SessionDevices } from '../core/session-devices.ts';
import type { Dispatcher } from '../devices/dispatcher.ts';
import type { Telemetry } from '../observe/events.ts';
import { readCommand, writeAnswer } from './command-message.ts';
import { callMethod } from './downlink-methods.ts';
import { createMeter, type Meter } from './meter.ts';

export interface DownlinkOptions {
  /** The endpoint's name, for the audit. */
  readonly name: string;
  readonly gatewayId: DeviceId;
  readonly dispatcher: Pick<Dispatcher, 'run' | 'isAway'>;
  /** What back ends may call of the gateway itself. */
  readonly methods?: GatewayMethods;
  /** Devices with sessions at the local hub. */
  readonly sessions?: SessionDevices;
  readonly telemetry: Telemetry;
  /** A device confirmed values that were written. */
  readonly onWritten?: (deviceId: string, values: NonNullable<CommandAnswer['values']>) => void;
  /** Counts the bytes of commands and answers. */
  readonly meter?: Meter;
}

export interface Downlink {
  /** Commands taken and not yet carried out. */
  readonly taken: number;
}

/** Has the transport's commands carried out; undefined where it carries none. */
export function attachDownlink(endpoint: Endpoint | UpstreamTransport, options: DownlinkOptions): Downlink | undefined {
  const transport: UpstreamTransport | undefined = 'receiveCommands' in endpoint ? endpoint : undefined;
  if (transport?.receiveCommands === undefined) return undefined;
  const { name, gatewayId, dispatcher, meter = createMeter(), methods, telemetry, onWritten } = options;
  const actor = `upstream:${name}`;
  /** Commands taken and not yet carried out; answers on their way, refusals included. */
  let taken = 0;
  let answering = 0;

  function ignored(reason: string, fields: Readonly<Record<string, unknown>>): void {
    if (reason === 'not_subscribed') {
      telemetry.emit('commands_not_received', {
        key: `${name}:${String(fields['device'])}`,
        endpoint: name,
        ...fields,
      });
    } else telemetry.emit('command_ignored', { key: `${name}:${reason}`, endpoint: name, reason, ...fields });
  }

  async function answer(command: IncomingCommand, id: string | undefined, what: CommandAnswer): Promise<void> {
    const { deviceId: device } = command;
    // A flood is answered as fast as the link takes answers, and no faster.
    if (answering >= 2 * LIMITS.downlink_commands) {
      ignored('flood', { device });
      return;
    }
    answering += 1;
    try {
      const body = writeAnswer(id, what);
      meter.add('answers', body.byteLength);
      const sent = await transport?.answer?.(command, { id, body });
      if (sent !== true) ignored('answer_not_sent', { device, id, status: what.status });
    } finally {
      answering -= 1;
    }
  }

  async function run(command: DeviceCommand, given: Omit<CommandOptions, 'actor'>): Promise<CommandAnswer> {
    if (taken >= LIMITS.downlink_commands) {
      const reason = `${taken} commands are under way already. Send more slowly.`;
      telemetry.emit('command_answered', { status: 429, device: command.deviceId, id: given.id });
      return { status: 429, code: 'GW_THROTTLED', reason };
    }
    taken += 1;
    try {
      const answer = await dispatcher.run(command, { ...given, actor });
      // Also of a write that was done in part.
      if (command.kind === 'write' && answer.values !== undefined) onWritten?.(command.deviceId, answer.values);
      return answer;
    } finally {
      taken -= 1;
    }
  }

  async function carryOut(command: IncomingCommand): Promise<void> {
    meter.add('commands', command.payload.byteLength);
    const { id, parsed } = readCommand(command);
    if (parsed instanceof GatewayError) {
      telemetry.emit('command_answered', { status: 400, device: command.deviceId, id, error: parsed.message });
      await answer(command, id, answerOf(parsed));
      return;
    }
    const expiresAtMs = earlier(parsed.expiresAtMs, command.expiresAtMs);
    if (expiresAtMs === undefined && command.needsExpiry === true) {
      telemetry.emit('command_answered', { status: 400, device: command.deviceId, id, error: NO_EXPIRY.message });
      await answer(command, id, answerOf(NO_EXPIRY));
      return;
    }
    const done = await run(parsed.command, { id, expiresAtMs });
    await answer(command, id, done);
  }

  /** One of the local hub that has no session. */
  function isSessionAway(deviceId: string): boolean {
    const { sessions } = options;
    return isDeviceId(deviceId) && sessions?.has(deviceId) === true && !sessions.isConnected(deviceId);
  }

  transport.receiveCommands({
    onCommand: (command) => void carryOut(command),
    onIgnored: ignored,
    run: async (command, given) => {
      const done = await run(command, given);
      meter.add('commands', jsonBytes(command));
      meter.add('answers', writeAnswer(given.id, done).byteLength);
      return done;
    },
    callMethod: async (method, payload) => {
      const answered = await callMethod(
        { gatewayId, run: ({ command, expiresAtMs }) => run(command, { expiresAtMs }), methods, actor },
        method,
        payload,
      );
      meter.add('commands', payload.byteLength);
      meter.add('answers', jsonBytes(answered));
      return answered;
    },
    isAway: (deviceId) => dispatcher.isAway(deviceId) || isSessionAway(deviceId),
    ...(options.sessions !== undefined && { sessions: options.sessions }),
  });
  return {
    get taken() {
      return taken;
    },
  };
}

const NO_EXPIRY = new GatewayError(
  'GW_MESSAGE_INVALID',
  'The command does not say until when it holds. Give it `expires_at`, or the time to live that the transport has.',
);

/** About the bytes of what a transport takes apart or puts together itself. */
function jsonBytes(value: object): number {
  const text = JSON.stringify(value, (_key, part: unknown) => (typeof part === 'bigint' ? String(part) : part));
  return Buffer.byteLength(text);
}

function earlier(one: number | undefined, other: number | undefined): number | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  return Math.min(one, other);
}
