// Faults that the vendor's own tests ask for by properties of a telemetry message. Only where the hub is configured so.

import {
  FAULT_REFUSALS,
  faultRequest,
  iotHubError,
  type AmqpConnection,
  type AmqpError,
  type AmqpLink,
  type Clock,
} from '#sdk';
import type { DeviceLinks } from './device-links.ts';
import type { TelemetryFault } from './device-context.ts';
import { amqpErrorOf } from './errors.ts';

export interface FaultTargets {
  readonly connection: AmqpConnection;
  readonly device: () => DeviceLinks;
  /** Links to `$cbs`, the way of requests and the way of answers. */
  readonly cbs: () => { readonly requests: AmqpLink | undefined; readonly answers: AmqpLink | undefined };
  readonly clock: Clock;
}

type Kill = (targets: FaultTargets, error: (condition: string) => AmqpError) => void;

const DETACHED = 'amqp:link:detach-forced';

function killLink(find: (targets: FaultTargets) => AmqpLink | undefined): Kill {
  return (targets, error) => find(targets)?.close(error(DETACHED));
}

/** By the value of `AzIoTHub_FaultOperationType`. */
const KILLS: ReadonlyMap<string, Kill> = new Map([
  ['KillTcp', ({ connection }) => connection.destroy()],
  // A condition at which the SDKs connect again; at `amqp:connection:forced` the one for Node does not.
  ['KillAmqpConnection', ({ connection }, error) => connection.close(error('amqp:internal-error'))],
  ['ShutDownAmqp', ({ connection }) => connection.close()],
  [
    'KillAmqpSession',
    ({ connection, device }, error) => {
      const link = device().link('device-events/receiver');
      if (link !== undefined) connection.endSession(link.sessionNumber, error(DETACHED));
    },
  ],
  ['KillAmqpCBSLinkReq', killLink(({ cbs }) => cbs().requests)],
  ['KillAmqpCBSLinkResp', killLink(({ cbs }) => cbs().answers)],
  ['KillAmqpD2CLink', killLink(({ device }) => device().link('device-events/receiver'))],
  ['KillAmqpC2DLink', killLink(({ device }) => device().link('device-commands/sender'))],
  ['KillAmqpTwinLinkReq', killLink(({ device }) => device().link('device-twin/receiver'))],
  ['KillAmqpTwinLinkResp', killLink(({ device }) => device().link('device-twin/sender'))],
  ['KillAmqpMethodReqLink', killLink(({ device }) => device().link('device-methods/sender'))],
  ['KillAmqpMethodRespLink', killLink(({ device }) => device().link('device-methods/receiver'))],
] satisfies readonly (readonly [string, Kill])[]);

interface Refusing {
  readonly error: Error;
  /** Monotonic ms. */
  readonly fromMs: number;
  readonly untilMs: number;
}

/** What obeys messages of one device that ask for faults, and refuses others while a fault lasts. */
export function createFaults(targets: FaultTargets): TelemetryFault {
  const { clock } = targets;
  let refusing: Refusing | undefined;

  return (properties, delivery) => {
    const nowMs = clock.monotonicMs();
    const asked = faultRequest(properties);
    if (asked === undefined) {
      if (refusing === undefined || nowMs < refusing.fromMs || nowMs >= refusing.untilMs) return false;
      delivery.reject(amqpErrorOf(refusing.error, clock));
      return true;
    }
    const { type, reason, delayMs, durationMs } = asked;
    const refusal = FAULT_REFUSALS.get(type);
    if (refusal !== undefined) {
      const fromMs = nowMs + delayMs;
      refusing = { error: iotHubError(refusal, reason), fromMs, untilMs: fromMs + durationMs };
      if (delayMs > 0) delivery.accept();
      else delivery.reject(amqpErrorOf(refusing.error, clock));
      return true;
    }
    const kill = KILLS.get(type);
    if (kill === undefined) return false;
    delivery.accept();
    // Not before the client has heard that its request was taken.
    clock.after(Math.max(1, delayMs), () => kill(targets, (condition) => ({ condition, description: reason })));
    return true;
  };
}
