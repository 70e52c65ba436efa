//! The rules of collection, as `artifact_store::bucket::collect` states them. The model breaks each
//! at the machines' edge: it lets a driver do what the rule forbids.

/// A rule that sessions or collectors keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// R1.
    BasesAreReadUnderALease,
    /// R2.
    GcIsReadUnderALease,
    /// R3.
    LeasesMoveByCompareAndSwap,
    /// R4.
    CondemnedCountsAsAbsent,
    /// R5.
    SparedBeforeAcknowledged,
    /// R6.
    TooLateIfNoLongerCondemned,
    /// R7.
    SparedListsAreNeverReplaced,
    /// R8.
    LeaseIsYoungWhenPublishing,
    /// R9.
    LeaseStaysWhileUnclear,
    /// R10.
    JournalsCountByEpoch,
    /// R11.
    JournalsFollowAnswers,
    /// R12.
    GcMovesByCompareAndSwap,
    /// R13.
    ListsHaveNamesOfTheirOwn,
    /// R14.
    SessionsAreWaitedFor,
    /// R15.
    DeadSessionsAreFenced,
    /// R16.
    ClaimedBeforeRefsAreRead,
    /// R17.
    RefsAreReadAgain,
    /// R18.
    SparedStays,
    /// R19.
    NewCommitsKeepWhatTheyReach,
    /// R20.
    CommitsGoFirst,
    /// R21.
    ClaimIsYoungWhenDeleting,
    /// R22.
    LivingClaimsAreRespected,
    /// R23.
    IdleWhenAllIsSettled,
    /// R24.
    NoTwoVersionsAreAlike,
    /// R25.
    BasesAreJudgedUnderOneList,
}

impl Rule {
    /// All rules, in the order of their numbers.
    pub const ALL: [Self; 25] = [
        Self::BasesAreReadUnderALease,
        Self::GcIsReadUnderALease,
        Self::LeasesMoveByCompareAndSwap,
        Self::CondemnedCountsAsAbsent,
        Self::SparedBeforeAcknowledged,
        Self::TooLateIfNoLongerCondemned,
        Self::SparedListsAreNeverReplaced,
        Self::LeaseIsYoungWhenPublishing,
        Self::LeaseStaysWhileUnclear,
        Self::JournalsCountByEpoch,
        Self::JournalsFollowAnswers,
        Self::GcMovesByCompareAndSwap,
        Self::ListsHaveNamesOfTheirOwn,
        Self::SessionsAreWaitedFor,
        Self::DeadSessionsAreFenced,
        Self::ClaimedBeforeRefsAreRead,
        Self::RefsAreReadAgain,
        Self::SparedStays,
        Self::NewCommitsKeepWhatTheyReach,
        Self::CommitsGoFirst,
        Self::ClaimIsYoungWhenDeleting,
        Self::LivingClaimsAreRespected,
        Self::IdleWhenAllIsSettled,
        Self::NoTwoVersionsAreAlike,
        Self::BasesAreJudgedUnderOneList,
    ];
}
