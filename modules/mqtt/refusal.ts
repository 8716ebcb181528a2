// Why a peer is refused, as a stable word that is counted; never shown to the peer.

export class Refusal extends Error {
  readonly reason: string;

  constructor(reason: string) {
    super(reason);
    this.name = 'Refusal';
    this.reason = reason;
  }
}
