// The links of one device or module on one connection (contract/device-amqp.md, sections 5 to 8). At most one of each kind: a
// newer one closes the earlier.

import {
  iotHubError,
  type AmqpDelivery,
  type AmqpLink,
  type AmqpReceiver,
  type AmqpSender,
  type Interest,
  type ToSession,
} from '#sdk';
import type { DeviceContext } from './device-context.ts';
import { CommandLink } from './command-link.ts';
import { receive } from './credit.ts';
import { amqpErrorOf } from './errors.ts';
import { inputLink } from './input-link.ts';
import { MethodLinks } from './method-links.ts';
import { telemetryReceiver } from './telemetry-link.ts';
import { TwinLinks } from './twin-links.ts';

export type DeviceLinkKind = 'device-events' | 'device-commands' | 'device-methods' | 'device-twin';

/** Names of links by kind and role, for fault injection and for what is closed by a newer one. */
export type LinkPlace = `${DeviceLinkKind}/${'receiver' | 'sender'}`;

export class DeviceLinks {
  readonly #context: DeviceContext;
  readonly #links = new Map<LinkPlace, AmqpLink>();
  readonly #twin: TwinLinks;
  readonly #methods: MethodLinks;
  #commands: CommandLink | undefined;
  #sendInput: ((item: Extract<ToSession, { readonly kind: 'input' }>) => void) | undefined;

  constructor(context: DeviceContext) {
    this.#context = context;
    this.#twin = new TwinLinks(context, () => this.#tellInterests());
    this.#methods = new MethodLinks(context);
  }

  link(place: LinkPlace): AmqpLink | undefined {
    return this.#links.get(place);
  }

  /** @throws GatewayError GW_IOTHUB InvalidOperation for a link that goes the wrong way. */
  add(kind: DeviceLinkKind, link: AmqpLink): void {
    const place: LinkPlace = `${kind}/${link.role}`;
    const start = this.#starter(kind, link);
    const earlier = this.#links.get(place);
    this.#links.set(place, link);
    earlier?.close(
      amqpErrorOf(iotHubError('LinkCreationConflict', 'A newer link of this kind was opened.'), this.#context.clock),
    );
    start();
    this.#tellInterests();
  }

  removed(link: AmqpLink): void {
    for (const [place, known] of this.#links) {
      if (known !== link) continue;
      this.#links.delete(place);
      if (place === 'device-twin/sender') this.#twin.noReplies();
      if (place === 'device-methods/sender') this.#methods.noRequests();
      if (place === 'device-commands/sender') this.#closeCommands();
      if (place === 'device-events/sender') this.#sendInput = undefined;
      this.#tellInterests();
    }
  }

  deliver(item: Exclude<ToSession, { readonly kind: 'end' }>): void {
    switch (item.kind) {
      case 'command':
        this.#commands?.deliver(item.command);
        break;
      case 'method':
        this.#methods.deliver(item);
        break;
      case 'desired':
        this.#twin.notify(item.patch);
        break;
      case 'input':
        this.#sendInput?.(item);
        break;
    }
  }

  /** What to do with a link, once its earlier one is gone. */
  #starter(kind: DeviceLinkKind, link: AmqpLink): () => void {
    const { moduleId } = this.#context.ref;
    const isReceiver = link.role === 'receiver';
    switch (kind) {
      case 'device-events':
        if (isReceiver) return () => telemetryReceiver(link, this.#context);
        if (moduleId !== undefined) return () => (this.#sendInput = inputLink(link));
        throw iotHubError('InvalidOperation', 'Events of devices are read from the built-in endpoint.');
      case 'device-commands':
        if (!isReceiver) return () => this.#openCommands(link);
        throw iotHubError('InvalidOperation', 'Devices take commands; services send them.');
      case 'device-twin':
        if (isReceiver) return () => this.#receive(link, (delivery) => this.#twin.request(delivery));
        return () => this.#twin.replies(link);
      case 'device-methods':
        if (isReceiver) return () => this.#receive(link, (delivery) => this.#methods.answer(delivery));
        return () => this.#methods.requests(link);
    }
  }

  #receive(link: AmqpReceiver, take: (delivery: AmqpDelivery) => Promise<void> | void): void {
    receive(link, this.#context.inFlight, take);
  }

  #openCommands(link: AmqpSender): void {
    const { hub, hubId, ref, sessionId, clock } = this.#context;
    this.#closeCommands();
    this.#commands = new CommandLink(link, { hub, hubId, ref, sessionId, clock });
  }

  #closeCommands(): void {
    this.#commands?.close();
    this.#commands = undefined;
  }

  #tellInterests(): void {
    const interests: Interest[] = [];
    if (this.#links.has('device-commands/sender') && this.#context.ref.moduleId === undefined)
      interests.push('commands');
    // A call is given to the device only when it can answer.
    if (this.#links.has('device-methods/sender') && this.#links.has('device-methods/receiver'))
      interests.push('methods');
    if (this.#links.has('device-twin/sender') && this.#twin.wantsDesired) interests.push('desired');
    if (this.#sendInput !== undefined) interests.push('inputs');
    this.#context.hub.sessions.setInterests(this.#context.sessionId, interests);
  }
}
