/** A client did what ends its connection: MQTT 3.1.1 has no other answer. */
export class Refused extends Error {
  /** Stable, for counting. */
  readonly reason: string;

  constructor(reason: string) {
    super(reason);
    this.reason = reason;
  }
}
