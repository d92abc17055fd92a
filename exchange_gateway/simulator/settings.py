"""What the exchange simulator may be told from outside."""

from __future__ import annotations

from dataclasses import dataclass, field

from infra.settings import Infra, Secrets, SettingsError, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    infra: Infra = field(default_factory=Infra)
    secrets: Secrets

    tape: str = setting("", "Tape file to replay; empty: the recorded day if it is found, else a synthetic one.")
    marketdata_dir: str = setting("", "Folder with tape/ and reference/; empty: shared/marketdata beside the checkout.")
    tape_speed: str = setting("1x", "Replay speed: 1x, 10x, any number with x, or max.")
    tape_start: str = setting("09:30", "New York time of day at which a pass over a recorded tape begins.")
    tape_rows: int = setting(0, "Most ticks of one pass; 0 is the whole tape.")
    tape_loops: int = setting(0, "Passes over the tape, one session each; 0 is for ever.")
    tape_clock: str = setting("wall", "Event times: wall (the moment of emission) or tape (as recorded).")
    tape_seed: int = setting(1, "Seed of the synthetic tape.")
    tape_symbols: int = setting(500, "Symbols of the synthetic tape.")
    tape_synthetic_rows: int = setting(2_000_000, "Ticks of one synthetic day of 6.5 hours.")
    tape_waits_for_client: bool = setting(True, "At speed max, ticks wait until a feed client is connected.")
    session_pause_s: float = setting(1.0, "Pause between the close of a session and the open of the next.")

    feed_ring_ticks: int = setting(500_000, "Ticks kept for feed clients that resume or fall behind.")
    feed_frame_ticks: int = setting(500, "Most ticks in one feed frame.")
    feed_flush_ms: float = setting(5.0, "Ticks due within this time share a frame.")
    depth_flush_ms: float = setting(100.0, "Least time between two books of a symbol to one client, milliseconds.")

    webhooks: bool = setting(True, "Whether reports are also sent as webhooks.")
    webhook_url: str = setting("", "Where webhooks go; empty: the gateway of this machine.")
    webhook_concurrency: int = setting(8, "Webhooks that are sent at once.")
    webhook_queue_max: int = setting(20_000, "Webhooks that wait; more are left to the drop copy.")
    webhook_give_up_s: float = setting(900.0, "Age at which an unanswered webhook is left to the drop copy.")

    journal: bool = setting(True, "Whether orders and reports survive a restart (in <run_dir>/venue).")
    journal_sessions_kept: int = setting(3, "Sessions whose reports and ended orders are kept.")
    journal_age_min_s: int = setting(3600, "A session that ended more recently than this is kept in any case.")

    chaos_allowed: bool = setting(False, "Whether POST /chaos and the busting of fills are open (docs/venue-api.md).")
    scenario: str = setting("", "JSON file with misbehaviour that begins at the start; empty: none.")
    chaos_seed: int = setting(1, "Seed of what misbehaviour leaves to chance.")

    @property
    def speed(self) -> float | None:
        """Tape seconds per second; None is as fast as the clients take it."""
        text = self.tape_speed.strip().lower()
        if text == "max":
            return None
        try:
            speed = float(text.removesuffix("x"))
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            raise SettingsError(f"XGW_TAPE_SPEED={self.tape_speed!r} is not a speed such as 1x, 10x or max")
        return speed

    @property
    def is_tape_clock(self) -> bool:
        if self.tape_clock not in ("wall", "tape"):
            raise SettingsError(f"XGW_TAPE_CLOCK={self.tape_clock!r} is neither wall nor tape")
        return self.tape_clock == "tape"

    @property
    def webhooks_to(self) -> str:
        return self.webhook_url or f"http://127.0.0.1:{self.infra.gateway_port}/webhooks"
