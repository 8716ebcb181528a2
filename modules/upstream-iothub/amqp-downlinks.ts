// The downlinks of all identities on one AMQP connection.

import { errorText, type AmqpClient, type Clock, type CommandReceiver, type DeviceId } from '#sdk';
import { AmqpDownlink, type AmqpDownlinkOptions, type Wants } from './amqp-downlink.ts';
import type { AmqpTwinOwner } from './amqp-twin.ts';
import { createHubCommands } from './commands.ts';
import type { HubIdentity } from './identity.ts';

export interface AmqpDownlinksOptions {
  readonly client: Pick<AmqpClient, 'openSession'>;
  readonly gatewayId: DeviceId;
  readonly receiver: CommandReceiver;
  /** Undefined: nobody wants the twins. */
  readonly twins: (Pick<AmqpTwinOwner, 'receiver'> & { carrierOf(deviceId: string): DeviceId }) | undefined;
  /** Who a carrier is at the hub; perhaps with another key than before. */
  readonly identityOf: (carrierId: DeviceId) => HubIdentity;
  readonly tokens: AmqpDownlinkOptions['tokens'];
  /** After which the links of a device that is away are given up. */
  readonly idleMs: number;
  readonly clock: Clock;
}

const TICK_MS = 1000;
const ALL: Wants = { methods: true, messages: true, anything: true };

export class AmqpDownlinks {
  readonly #options: AmqpDownlinksOptions;
  /** By the device id at the hub. */
  readonly #downlinks = new Map<string, AmqpDownlink>();
  #cancelTick: (() => void) | undefined;
  #isEnded = false;

  constructor(options: AmqpDownlinksOptions) {
    this.#options = options;
    this.#tick();
  }

  /** Whether an identity has links, or is to have some. */
  has(identity: HubIdentity): boolean {
    return this.#downlinks.get(identity.deviceId)?.isUsed === true;
  }

  /** The device at the local hub is there, or takes something else now. */
  wake(carrierId: DeviceId): void {
    this.#downlinks.get(this.#options.identityOf(carrierId).deviceId)?.wake();
  }

  /** Listens to what comes for a carrier from now on, while somebody takes it, until the connection ends. */
  add(carrierId: DeviceId): void {
    const { client, clock, gatewayId, identityOf, idleMs, receiver, tokens, twins } = this.#options;
    const { deviceId } = identityOf(carrierId);
    if (this.#isEnded || this.#downlinks.has(deviceId)) return;
    const leaf = carrierId === gatewayId ? {} : { leafId: carrierId };
    const downlink = new AmqpDownlink({
      client,
      identityOf: () => identityOf(carrierId),
      tokens,
      commands: createHubCommands({ gatewayId, ...leaf, clock, receiver }),
      wants: () => this.#wantsOf(carrierId),
      twin: twins && {
        deviceId: carrierId,
        carries: (leafId) => twins.carrierOf(leafId) === carrierId,
        receiver: twins.receiver,
      },
      onNotSubscribed: (error) => receiver.onIgnored('not_subscribed', { device: carrierId, error: errorText(error) }),
      idleMs,
      clock,
    });
    this.#downlinks.set(deviceId, downlink);
  }

  end(): void {
    this.#isEnded = true;
    this.#cancelTick?.();
    for (const downlink of this.#downlinks.values()) downlink.end();
    this.#downlinks.clear();
  }

  #wantsOf(carrierId: DeviceId): Wants {
    const { gatewayId, receiver } = this.#options;
    if (carrierId === gatewayId) return ALL;
    const { sessions } = receiver;
    // A device of an adapter has its methods answered here.
    if (sessions?.has(carrierId) !== true) return { ...ALL, messages: !receiver.isAway(carrierId) };
    return {
      methods: sessions.takesMethods(carrierId),
      messages: sessions.takesCommands(carrierId),
      anything: sessions.isWanted(carrierId),
    };
  }

  readonly #tick = (): void => {
    this.#cancelTick = this.#options.clock.after(TICK_MS, this.#tick);
    for (const downlink of this.#downlinks.values()) downlink.tick();
  };
}
