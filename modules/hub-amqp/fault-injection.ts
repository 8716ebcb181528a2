// Faults that the vendor's own tests ask for by properties of a telemetry message. Only where the hub is configured so.

import type { AmqpConnection, AmqpDelivery, AmqpLink, Clock } from '#sdk';
import type { DeviceLinks } from './device-links.ts';

export interface FaultTargets {
  readonly connection: AmqpConnection;
  readonly device: DeviceLinks;
  /** Links to `$cbs`, the way of requests and the way of answers. */
  readonly cbs: () => { readonly requests: AmqpLink | undefined; readonly answers: AmqpLink | undefined };
  readonly clock: Clock;
}

const CLOSED = { condition: 'amqp:connection:forced', description: 'A fault was injected.' };
const DETACHED = { condition: 'amqp:link:detach-forced', description: 'A fault was injected.' };

type Kill = (targets: FaultTargets) => void;

const kill = (link: AmqpLink | undefined): void => link?.close(DETACHED);

/** By the value of `AzIoTHub_FaultOperationType`. */
const KILLS: Readonly<Record<string, Kill>> = {
  KillTcp: ({ connection }) => connection.destroy(),
  KillAmqpConnection: ({ connection }) => connection.close(CLOSED),
  ShutDownAmqp: ({ connection }) => connection.close(),
  KillAmqpSession: ({ connection, device }) => {
    const link = device.link('device-events/receiver');
    if (link !== undefined) connection.endSession(link.sessionNumber, DETACHED);
  },
  KillAmqpCBSLinkReq: ({ cbs }) => kill(cbs().requests),
  KillAmqpCBSLinkResp: ({ cbs }) => kill(cbs().answers),
  KillAmqpD2CLink: ({ device }) => kill(device.link('device-events/receiver')),
  KillAmqpC2DLink: ({ device }) => kill(device.link('device-commands/sender')),
  KillAmqpTwinLinkReq: ({ device }) => kill(device.link('device-twin/receiver')),
  KillAmqpTwinLinkResp: ({ device }) => kill(device.link('device-twin/sender')),
  KillAmqpMethodReqLink: ({ device }) => kill(device.link('device-methods/sender')),
  KillAmqpMethodRespLink: ({ device }) => kill(device.link('device-methods/receiver')),
};

/** Refusals of the message itself. */
const REFUSALS: Readonly<Record<string, string>> = {
  InvokeThrottling: 'com.microsoft:device-container-throttled',
  InvokeMaxMessageQuota: 'amqp:resource-limit-exceeded',
  InvokeAuthError: 'amqp:unauthorized-access',
};

/** Obeys a message that asks for a fault; returns whether it was one. */
export function injectFault(
  properties: Readonly<Record<string, string>>,
  delivery: AmqpDelivery,
  targets: FaultTargets,
): boolean {
  const type = properties['AzIoTHub_FaultOperationType'] ?? '';
  const condition = Object.hasOwn(REFUSALS, type) ? REFUSALS[type] : undefined;
  if (condition !== undefined) {
    delivery.reject({ condition, description: 'A fault was injected.' });
    return true;
  }
  const fault = Object.hasOwn(KILLS, type) ? KILLS[type] : undefined;
  if (fault === undefined) return false;
  delivery.accept();
  const delaySecs = Number(properties['AzIoTHub_FaultOperationDelayInSecs'] ?? 0);
  const delayMs = delaySecs > 0 && delaySecs <= 3600 ? delaySecs * 1000 : 1;
  targets.clock.after(delayMs, () => fault(targets));
  return true;
}
