// One MQTT connection: its packets in order, its log-in, its time limits, and its end.

import {
  connackPacket,
  connackVersion5,
  errorText,
  LIMITS,
  pingrespPacket,
  type ClientConnect,
  type ClientPacket,
  type DoorConnection,
  type EndReason,
  type FaultRequest,
  type HeadContext,
  type IotHubFault,
  type MqttServerPackets,
  type PacketReader,
  type SessionId,
  type ToSession,
} from '#sdk';
import { DeviceSession, willOf } from './device-session.ts';
import { clientIdOf, connackOf, logIn, type LoginResult } from './login.ts';
import { Refused } from './refused.ts';
import type { LeftIds } from './sent-commands.ts';

/** The name under which sessions are opened; the gateway attaches the head under its type. */
export const HEAD_NAME = 'mqtt';

/** From the connection to the end of its log-in. */
const CONNECT_MS = 60_000;
/** The service waits no longer than this for a sign of life, whatever a client asked for. */
const LONGEST_SILENCE_MS = 1_767_000;
/** CONNECT has five fields of 64 KB at most; nobody uses a third of that. */
const CONNECT_MAX_BYTES = 96 * 1024;
/** A message of 256 KB, with a topic as long as topics may be. */
const PACKET_MAX_BYTES = 256 * 1024 + 64 * 1024 + 4;
/** How long a client is held whose message could not be stored, so that it does not resend without end. */
const NOT_STORED_PAUSE_MS = 1000;
/** How long a client may take to read the last that is written to it. */
const FAREWELL_MS = 2000;

export interface ConnectionOptions {
  readonly door: DoorConnection;
  readonly context: HeadContext;
  readonly packets: MqttServerPackets;
  /** Packet identifiers that an earlier connection of the client left; taken once. */
  readonly takeLeftIds: (client: string) => LeftIds | undefined;
  readonly opened: (connection: HubConnection) => void;
  /** Once, whether it had opened a session or not. */
  readonly ended: (connection: HubConnection) => void;
}

interface Session {
  readonly device: DeviceSession;
  readonly client: string;
  readonly silenceMs: number;
}

type Entrance = Extract<LoginResult, { isIn: true }>;

export class HubConnection {
  readonly #options: ConnectionOptions;
  readonly #reader: PacketReader;
  /** Read, and not handled. */
  #waiting: ClientPacket[] = [];
  /** A packet is under way that the next one has to wait for. */
  #isBusy = false;
  #session: Session | undefined;
  #heardMs: number;
  #isEnded = false;
  #isStopping = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    const { door, context, packets } = options;
    this.#reader = packets.reader(CONNECT_MAX_BYTES);
    this.#heardMs = context.clock.monotonicMs();
    door.stream.on('error', () => {});
    door.stream.on('close', () => this.end('lost'));
    door.stream.on('data', (bytes: Buffer) => this.#read(bytes));
  }

  get sessionId(): SessionId | undefined {
    return this.#session?.device.sessionId;
  }

  /** The client of its session: hub, device and module. */
  get client(): string | undefined {
    return this.#session?.client;
  }

  get leftIds(): LeftIds | undefined {
    return this.#session?.device.leftIds;
  }

  /** To be called now and then: ends it when it was silent for too long. */
  checkSilence(nowMs: number): void {
    const allowedMs = this.#session?.silenceMs ?? CONNECT_MS;
    // What is not read cannot be heard.
    if (this.#session !== undefined && this.#options.door.stream.isPaused()) this.#heardMs = nowMs;
    if (nowMs - this.#heardMs <= allowedMs) return;
    this.#refuse(this.#session === undefined ? 'no_connect' : 'keepalive_timeout');
  }

  deliver(item: ToSession): void {
    if (this.#isEnded) return;
    if (item.kind === 'end') this.end(item.reason);
    else this.#session?.device.deliver(item);
  }

  /** Reads no more, and ends once all that was read is acknowledged. */
  stopWhenIdle(): void {
    this.#isStopping = true;
    this.#options.door.stream.pause();
    this.#stopIfIdle();
  }

  /** Idempotent. `isOrderly`: what was written reaches the client first. */
  end(reason: EndReason, isOrderly = false): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#waiting = [];
    const { door, context, ended } = this.#options;
    const session = this.#session;
    ended(this);
    if (isOrderly) {
      const cancel = context.clock.after(FAREWELL_MS, () => door.destroy());
      door.stream.on('close', cancel);
      door.stream.end(() => door.destroy());
      // Its goodbye, and whatever else it sends, is of no interest.
      door.stream.resume();
    } else door.destroy();
    if (session === undefined) return;
    session.device.flush();
    context.hub.sessions.close(session.device.sessionId, reason);
  }

  // Packets

  #read(bytes: Buffer): void {
    if (this.#isEnded) return;
    for (const packet of this.#reader.take(bytes)) this.#waiting.push(packet);
    if (this.#session !== undefined) {
      const { clock, hub } = this.#options.context;
      this.#heardMs = clock.monotonicMs();
      hub.sessions.touch(this.#session.device.sessionId);
    }
    this.#pump();
  }

  #pump(): void {
    let at = 0;
    while (!this.#isBusy && !this.#isEnded && at < this.#waiting.length) {
      const packet = this.#waiting[at];
      at += 1;
      if (packet !== undefined) this.#handle(packet);
    }
    if (this.#isEnded) return;
    this.#waiting.splice(0, at);
    this.#session?.device.flush();
    const { fault } = this.#reader;
    if (fault !== undefined && this.#waiting.length === 0 && !this.#isBusy) this.#refuse(fault);
    else this.#regulate();
  }

  /** Reads on, or not. */
  #regulate(): void {
    const { stream } = this.#options.door;
    const mustWait = this.#isBusy || this.#isStopping || this.#session?.device.isFull === true;
    if (mustWait !== stream.isPaused()) {
      if (mustWait) stream.pause();
      else stream.resume();
    }
  }

  #handle(packet: ClientPacket): void {
    try {
      const work = this.#take(packet);
      if (work === undefined) return;
      this.#isBusy = true;
      void work
        .catch((error: unknown) => this.#failed(error))
        .then(() => {
          this.#isBusy = false;
          if (!this.#isEnded) this.#pump();
          this.#stopIfIdle();
        });
    } catch (error) {
      this.#failed(error);
    }
  }

  #take(packet: ClientPacket): Promise<void> | undefined {
    const session = this.#session;
    if (session === undefined) {
      if (packet.cmd === 'connect') return this.#connect(packet);
      if (packet.cmd !== 'connect_unknown') throw new Refused('no_connect');
      // MQTT 3.1.1, 3.1.2-2.
      this.#write(connackPacket(1));
      this.#refuse('protocol_level', true);
      return undefined;
    }
    if (packet.cmd === 'pingreq') {
      this.#write(pingrespPacket());
      return undefined;
    }
    if (packet.cmd === 'disconnect') {
      this.end('closed', true);
      return undefined;
    }
    return session.device.handle(packet);
  }

  #failed(error: unknown): void {
    if (error instanceof Refused) this.#refuse(error.reason);
    else {
      // A fault of ours, which ends this connection and no other.
      this.#options.context.log.error({ error: errorText(error) }, 'A connection of MQTT failed.');
      this.#refuse('internal_fault');
    }
  }

  #refuse(reason: string, isOrderly = false): void {
    if (this.#isEnded) return;
    const { door, context } = this.#options;
    context.reportRefusal(reason, { client: this.#session?.client, remoteAddress: door.remoteAddress });
    this.end('misbehaved', isOrderly);
  }

  #write(bytes: Buffer): void {
    const { stream } = this.#options.door;
    if (this.#isEnded || stream.destroyed) return;
    stream.write(bytes);
    if (stream.writableLength > LIMITS.hub_client_unsent_bytes) this.#refuse('slow_subscriber');
  }

  #stopIfIdle(): void {
    if (!this.#isStopping || this.#isBusy || this.#session?.device.isIdle === false) return;
    this.end('stopping', true);
  }

  // Log-in

  async #connect(connect: ClientConnect): Promise<void> {
    const { door, context } = this.#options;
    const login = await logIn(connect, door, context.hub.access);
    if (this.#isEnded) return;
    if (login.isIn) {
      await this.#open(connect, login);
      return;
    }
    const { returnCode, reason } = login;
    this.#write(returnCode === undefined ? connackVersion5() : connackPacket(returnCode));
    if (reason === undefined) this.end('misbehaved', true);
    else this.#refuse(reason, true);
  }

  async #open(connect: ClientConnect, { principal, ref, userName }: Entrance): Promise<void> {
    const { door, context, packets, takeLeftIds, opened: tellOpened } = this.#options;
    const persistent = connect.clean !== true;
    const { clientType, modelId } = userName;
    const { will } = connect;
    const message = will && willOf(will, ref, modelId);
    let opened;
    try {
      opened = await context.hub.sessions.open(HEAD_NAME, {
        principal,
        protocol: door.protocol,
        remoteAddress: door.remoteAddress,
        persistent,
        ...(clientType !== undefined && { clientVersion: clientType }),
        ...(modelId !== undefined && { modelId }),
        ...(message !== undefined && { will: message }),
      });
    } catch (error) {
      this.#write(connackPacket(connackOf(error)));
      this.#refuse('session_refused', true);
      return;
    }
    const { sessionId, kept } = opened;
    if (this.#isEnded) {
      // It never heard that it was connected: nothing is to be said in its name.
      context.hub.sessions.close(sessionId, 'closed');
      return;
    }
    const client = `${principal.hubId}/${clientIdOf(ref)}`;
    const leftIds = takeLeftIds(client);
    const device = new DeviceSession({
      context,
      packets,
      sessionId,
      principal,
      ref,
      modelId,
      persistent,
      kept,
      leftIds: persistent ? leftIds : undefined,
      write: (bytes) => this.#write(bytes),
      moved: () => {
        if (!this.#isEnded && !this.#isBusy) this.#regulate();
        this.#stopIfIdle();
      },
      failed: (fault, isEnd) => this.#notStored(fault, isEnd),
      injectFault: (asked) => this.#injectFault(asked),
    });
    this.#session = { device, client, silenceMs: silenceOf(connect.keepalive ?? 0) };
    this.#reader.maxPacketBytes = PACKET_MAX_BYTES;
    tellOpened(this);
    this.#write(connackPacket(0, persistent && kept !== undefined));
    device.begin();
  }

  // Faults

  #notStored({ name, httpStatus }: IotHubFault, isEnd: boolean): void {
    const { door, context } = this.#options;
    context.reportRefusal(name, { client: this.#session?.client, remoteAddress: door.remoteAddress });
    if (!isEnd) return;
    // What is wrong with a message stays wrong; where the hub is at fault, the client comes again.
    const isLater = httpStatus >= 500 || httpStatus === 429;
    if (isLater) context.clock.after(NOT_STORED_PAUSE_MS, () => this.end('lost'));
    else this.end('misbehaved');
  }

  #injectFault({ type, delayMs }: FaultRequest): void {
    this.#options.context.clock.after(delayMs, () => this.end('lost', type === 'ShutDownMqtt'));
  }
}

/** One and a half times what the client promised (MQTT 3.1.1, 3.1.2-24), within the service's bound. */
function silenceOf(keepAliveSecs: number): number {
  return keepAliveSecs === 0 ? LONGEST_SILENCE_MS : Math.min(keepAliveSecs * 1500, LONGEST_SILENCE_MS);
}
